"""Packages that the report alone needs, so that an installation may be without them."""

from importlib.util import find_spec

from cluster.errors import UserError

PACKAGES = ("matplotlib", "jinja2")


def require_report_packages() -> None:
    """Check, before a run begins, that its report can be written at the end.

    Raises:
        UserError: with the packages that are missing, and what to do.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"report.enabled=true needs {' and '.join(missing)}, not installed here. "
            "Install them with pip install -e '.[report]', or set report.enabled=false."
        )
