"""What ``coderctl health`` prints."""

from coderd.api.health import HealthFinding, HealthReport
from coderd.cli.health import health_text

FINDING = HealthFinding(code="ETLS01", severity="warning", message="It ends in 5 days.", fix="Renew it.")


def report(*findings: HealthFinding, checked_at: float = 1.0) -> HealthReport:
    severity = findings[0].severity if findings else "ok"
    return HealthReport(
        severity=severity,
        findings=findings,
        checked_at=checked_at,
        access_url="https://coder.example.com",
        version="1.2.3",
    )


def test_a_healthy_server_is_one_line() -> None:
    assert health_text(report()) == "https://coder.example.com  coderd 1.2.3  ok\n"


def test_a_finding_has_its_code_and_its_fix() -> None:
    assert health_text(report(FINDING)).endswith("\n\nwarning  ETLS01  It ends in 5 days.\n  Renew it.\n")


def test_a_report_from_before_the_first_way_through_the_access_url_says_so() -> None:
    assert "still being checked" in health_text(report(checked_at=0.0))
