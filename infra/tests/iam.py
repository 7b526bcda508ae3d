"""What IAM would answer: a small evaluator of policies, for one principal in one account. An explicit Deny wins; without
an Allow the answer is no. It knows the conditions that our template uses, and refuses any other."""

from __future__ import annotations

import re
from typing import Any, Iterable


def listed(value: Any) -> list:
    """One or many, as policies have them, as a list."""
    return value if isinstance(value, list) else [value]


def matches(pattern: str, text: str, case: bool = True) -> bool:
    """Whether `*` and `?` of a pattern cover a text. `*` covers slashes, too."""
    regex = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(regex, text, re.DOTALL | (0 if case else re.IGNORECASE)) is not None


def _condition(operator: str, wanted: Any, given: str | None) -> bool:
    if given is None:
        # A key that a request doesn't have meets no condition, unless the operator says so.
        return operator.endswith("IfExists")
    values = [str(v) for v in listed(wanted)]
    name = operator.removesuffix("IfExists")
    if name == "StringLike":
        return any(matches(v, given) for v in values)
    if name == "StringEquals":
        return given in values
    if name == "Bool":
        return given.lower() in [v.lower() for v in values]
    raise NotImplementedError(f"condition {operator}")


def applies(statement: dict, action: str, resource: str, context: dict[str, str]) -> bool:
    """Whether a statement speaks of a request."""
    unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
    if unknown:
        raise NotImplementedError(f"{sorted(unknown)} in a statement")
    return (
        any(matches(pattern, action, case=False) for pattern in listed(statement["Action"]))
        and any(matches(pattern, resource) for pattern in listed(statement["Resource"]))
        and all(
            _condition(operator, wanted, context.get(key))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def allows(statements: Iterable[dict], action: str, resource: str, context: dict[str, str] | None = None) -> bool:
    """Whether a request would be let through."""
    effects = {s["Effect"] for s in statements if applies(s, action, resource, context or {})}
    return effects == {"Allow"}


class S3:
    """Requests to S3 under some statements, answered with S3's status."""

    def __init__(self, statements: list[dict], keys: Iterable[str] = ()) -> None:
        self.statements, self.keys = statements, set(keys)

    def _may(self, action: str, bucket: str, key: str) -> bool:
        return allows(self.statements, f"s3:{action}", f"arn:aws:s3:::{bucket}/{key}")

    def list(self, bucket: str, prefix: str | None) -> int:
        context = {} if prefix is None else {"s3:prefix": prefix}
        return 200 if allows(self.statements, "s3:ListBucket", f"arn:aws:s3:::{bucket}", context) else 403

    def get(self, bucket: str, key: str) -> int:
        if not self._may("GetObject", bucket, key):
            return 403
        if f"{bucket}/{key}" in self.keys:
            return 200
        # Whether a key is there is told only to who might have listed it; the key stands for the prefix.
        return 404 if self.list(bucket, key) == 200 else 403

    def put(self, bucket: str, key: str, tagged: bool = False) -> int:
        may = self._may("PutObject", bucket, key) and (not tagged or self._may("PutObjectTagging", bucket, key))
        return 200 if may else 403

    def delete(self, bucket: str, key: str) -> int:
        return 204 if self._may("DeleteObject", bucket, key) else 403
