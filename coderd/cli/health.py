"""``coderctl health``: what the server finds wrong with itself, and what to do about it."""

from coderd.api.health import HealthReport
from coderd.cli.login import open_api
from coderd.cli.options import Json, TokenFile, Url
from coderd.cli.say import say_json, say_text
from coderd.cli.shown import Shown, lines_text
from coderd.model.errors import Exit


def health(url: Url = None, token_file: TokenFile = None, json: Json = False) -> int:
    """Show what is wrong with the server, and what to do; admins and owners only.

    Examples:
      coderctl health
      coderctl health --json | jq .findings

    Ends with 0 where there is no error; warnings do not count. docs/server.md lists the codes.
    """
    client, _ = open_api(url, token_file)
    report = client.health_report()
    if json:
        say_json(report)
    else:
        say_text(health_text(report))
    return Exit.FAILED if report.severity == "error" else Exit.DONE


def health_text(report: HealthReport) -> Shown:
    """What a person reads; ends with a newline."""
    lines = [f"{report.access_url}  coderd {report.version}  {report.severity}"]
    if not report.checked_at:
        lines.append("The access URL is still being gone through.")
    for finding in report.findings:
        lines += ["", f"{finding.severity}  {finding.code}  {finding.message}", f"  {finding.fix}"]
    return lines_text(lines)
