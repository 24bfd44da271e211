from coderd.model.roles import Role, UserRole


def test_each_users_role_is_a_callers_role_and_the_reverse_for_users() -> None:
    assert [Role(role).user_role for role in UserRole] == list(UserRole)


def test_nodes_and_join_keys_act_as_members() -> None:
    others = set(Role) - {Role(role) for role in UserRole}
    assert {role.user_role for role in others} == {UserRole.MEMBER}
