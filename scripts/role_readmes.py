"""Write each role's README from its argument specification: `python scripts/role_readmes.py [--check]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parent.parent / "roles"


def cell(value: Any) -> str:
    """Return a value as one cell of a Markdown table."""
    text = " ".join(value) if isinstance(value, list) else str(value)
    for mark in ("C(", "V("):
        while mark in text:
            start = text.index(mark)
            end = text.index(")", start)
            text = f"{text[:start]}`{text[start + 2 : end]}`{text[end + 1 :]}"
    return text.replace("|", "\\|").replace("\n", " ")


def kind(option: dict[str, Any]) -> str:
    """Return the type of an option, with that of its elements and the values it may have."""
    text = str(option["type"])
    if "elements" in option:
        text += f" of {option['elements']}"
    if "choices" in option:
        text += ": " + ", ".join(f"`{choice}`" for choice in option["choices"])
    return text


def default(role: Path, name: str, option: dict[str, Any]) -> str:
    """Return what holds when an option is not given."""
    if option.get("required"):
        return "required"
    file = role / "defaults" / "main.yml"
    values = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
    value = option.get("default", (values or {}).get(name, ""))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "see defaults/main.yml"
    return "" if value == "" else f"`{value}`" if not isinstance(value, bool) else f"`{str(value).lower()}`"


def rows(role: Path, options: dict[str, Any], above: str = "") -> list[str]:
    """Return the table rows of options and of the keys inside them."""
    lines = []
    for name, option in options.items():
        full = f"{above}{name}"
        fallback = (
            default(role, name, option) if not above else ("required" if option.get("required") else "")
        )
        lines.append(f"| `{full}` | {kind(option)} | {cell(fallback)} | {cell(option['description'])} |")
        lines += rows(role, option.get("options", {}), f"{full}.")
    return lines


def readme(role: Path) -> str:
    """Return the README of a role."""
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    main = specification["argument_specs"]["main"]
    lines = [f"# {role.name}", "", f"{main['short_description']}.", "", cell(main["description"]), ""]
    if main.get("options"):
        lines += [
            "| Variable | Type | Default | Meaning |",
            "|---|---|---|---|",
            *rows(role, main["options"]),
            "",
        ]
    lines.append("Generated from `meta/argument_specs.yml` by `scripts/role_readmes.py`.")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the READMEs, or with --check name those that are not current and exit 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a README is not current"
    )
    check = parser.parse_args().check
    stale = []
    for role in sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml")):
        file = role / "README.md"
        text = readme(role)
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(file.relative_to(ROLES.parent)))
        if not check:
            file.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"not current: {', '.join(stale)}; run python scripts/role_readmes.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
