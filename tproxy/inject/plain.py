"""Values as JSON knows them, whatever a reader that keeps comments and quotes has put around them."""

from typing import Any


def plain(value: object) -> Any:  # noqa: ANN401 - what a manifest holds
    """Give a copy of `value` without what its reader has added."""
    match value:
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
        case list():
            return [plain(each) for each in value]
        case str():
            return str(value)
        case int() if not isinstance(value, bool):
            return int(value)
        case float():
            return float(value)
    return value
