"""msgspec's validation errors in JSON's terms."""

_TERMS = (
    ("`float | null`", "a number or null"),
    ("`float`", "a number"),
    ("`int`", "an integer"),
    ("`str | null`", "a string or null"),
    ("`str`", "a string"),
    ("`object`", "an object"),
    ("`array`", "an array"),
    ("`bool`", "true or false"),
    ("`null`", "null"),
    ("`datetime`", "a date and time"),
    (" of length >= 1", " that is not empty"),
    (" of length <= ", " not longer than "),
    (" >= ", " of at least "),
    (" <= ", " of at most "),
    (" > ", " above "),
    ("timezone component", "time zone"),
    ("Number out of range", "the number is too large"),
    ("Object missing required field", "missing field"),
    ("Invalid enum value", "unknown value"),
    ("Expected", "expected"),
)


def plain_message(message: str) -> str:
    """A message of msgspec without its path, for example `expected an integer, got a string`."""
    for term, replacement in _TERMS:
        message = message.replace(term, replacement)
    return message
