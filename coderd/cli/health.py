"""``coderctl health``: the problems that the server has found with itself, and their fixes."""

from coderd.api.health import HealthReport
from coderd.cli.login import open_api
from coderd.cli.options import Json, TokenFile, Url
from coderd.cli.say import say_json, say_text
from coderd.cli.shown import Shown, lines_text
from coderd.model.errors import Exit


def health(url: Url = None, token_file: TokenFile = None, json: Json = False) -> int:
    """Show problems with the server and how to fix them. For admins and owners.

    Examples:
      coderctl health
      coderctl health --json | jq .findings

    Exits with 0 if there is no error; warnings do not count. docs/server.md lists the codes.
    """
    client, _ = open_api(url, token_file)
    report = client.health_report()
    if json:
        say_json(report)
    else:
        say_text(health_text(report))
    return Exit.FAILED if report.severity == "error" else Exit.DONE


def health_text(report: HealthReport) -> Shown:
    """Returns a health report as lines for people."""
    lines = [f"{report.access_url}  coderd {report.version}  {report.severity}"]
    if not report.checked_at:
        lines.append("The access URL is still being checked.")
    for finding in report.findings:
        lines += ["", f"{finding.severity}  {finding.code}  {finding.message}", f"  {finding.fix}"]
    return lines_text(lines)
