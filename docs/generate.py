"""Write what the code knows better: the reference in policies.md, and the JSON Schemas of policy files."""

from pathlib import Path

from tproxy.policy.reference import page, schema_files

DOCS = Path(__file__).parent


def main() -> None:
    """Bring the files up to date."""
    policies = DOCS / "policies.md"
    policies.write_text(page(policies.read_text()))
    for name, text in schema_files().items():
        (DOCS / "schemas" / name).write_text(text)


if __name__ == "__main__":
    main()
