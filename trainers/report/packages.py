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


def require_page_package() -> None:
    """Check, before anything is computed, that a page without drawings can be written at the end.

    Raises:
        UserError: jinja2 is missing, and how to install it.
    """
    if find_spec("jinja2") is None:
        raise UserError("The page needs jinja2, not installed here. Install it with pip install -e '.[report]'.")
