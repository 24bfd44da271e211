"""``coderctl devices``: the enrolled machines of users."""

import time
from typing import Annotated

import typer

from coderd.api.messages import DeviceInfo
from coderd.cli.asking import All, Yes, confirm, print_facts, print_json, print_rows, since_text, until_text
from coderd.cli.login import open_api
from coderd.cli.options import Insecure, Json, TokenFile, Url
from coderd.cli.say import say
from coderd.model.errors import Exit

Name = Annotated[
    str, typer.Argument(metavar="DEVICE", help="A device: laptop is your own, ann/laptop is ann's.")
]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="A DNS label: letters, digits, hyphens.")]


def list_devices(
    everyones: All = False,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """List your devices.

    Examples:
      coderctl devices list
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    found = client.list_devices(everyones=everyones)
    if json:
        print_json(found)
        return Exit.DONE
    rows = [(f"{each.owner}/{each.name}", each.address, _presence(each)) for each in found]
    print_rows(rows, "No devices yet. Enrol this machine with: sudo coderctl up URL")
    return Exit.DONE


def show(
    name: Name, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False, json: Json = False
) -> int:
    """Show a device.

    Examples:
      coderctl devices show laptop
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.get_device(name), json)


def rename(
    name: Name,
    new_name: NewName,
    url: Url = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Rename a device.

    Examples:
      coderctl devices rename laptop tower
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.rename_device(name, new_name), json)


def approve(
    name: Name, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False, json: Json = False
) -> int:
    """Let a device join that waits for an admin's approval. It joins within seconds.

    Examples:
      coderctl devices approve ann/laptop
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    return _show(client.approve_device(name), json)


def delete(
    name: Name, yes: Yes = False, url: Url = None, token_file: TokenFile = None, insecure: Insecure = False
) -> int:
    """Delete a device: its tunnels close at once, and the machine must sign in again.

    Examples:
      coderctl devices delete laptop
    """
    client, _ = open_api(url, token_file, insecure=insecure)
    confirm(f"Delete the device {name}?", yes)
    client.delete_device(name)
    say(f"Deleted {name}")
    return Exit.DONE


def _show(device: DeviceInfo, json: bool) -> int:
    if json:
        print_json(device)
        return Exit.DONE
    print_facts(
        {
            "name": f"{device.owner}/{device.name}",
            "id": str(device.id),
            "address": device.address,
            "state": _presence(device),
            "enrolled": since_text(device.created_at),
            "expires": until_text(device.expires_at) if device.expires_at is not None else "",
        }
    )
    return Exit.DONE


def _presence(device: DeviceInfo) -> str:
    if device.is_waiting:
        return "waits for approval"
    if device.expires_at is not None and device.expires_at <= time.time():
        return "must sign in again"
    return "online" if device.online else "offline"
