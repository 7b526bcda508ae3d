"""A template as CloudFormation would see it: read with its short tags (`!Ref`), and resolved for given parameters as far as
policies, buckets and outputs need it. What it doesn't know it refuses, so that no test passes on half an answer."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).resolve().parents[1] / "template.yaml"

PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "111122223333",
    "AWS::StackName": "voxmill",
}

# What stands for a value that `!Ref AWS::NoValue` takes away.
NOTHING = object()


class Loader(yaml.SafeLoader):
    """YAML in which `!Name x` is `{"Fn::Name": x}`, as CloudFormation reads it. A key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"given twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


def _tag(loader: Loader, suffix: str, node: yaml.Node) -> dict:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _tag)


def load(path: Path = TEMPLATE) -> dict:
    """The template, unresolved."""
    return yaml.load(path.read_text(), Loader)


class Stack:
    """A template with values for its parameters: what CloudFormation would make of it."""

    def __init__(self, template: dict, **parameters: Any) -> None:
        self.template = copy.deepcopy(template)
        self.values = dict(PSEUDO)
        for name, parameter in template["Parameters"].items():
            value = str(parameters.pop(name, parameter.get("Default", "")))
            self._check(name, parameter, value)
            self.values[name] = value
        if parameters:
            raise ValueError(f"no such parameters: {sorted(parameters)}")
        self._check_rules()

    @staticmethod
    def _check(name: str, parameter: dict, value: str) -> None:
        pattern, allowed = parameter.get("AllowedPattern"), parameter.get("AllowedValues")
        if pattern and not re.fullmatch(pattern, value):
            raise ValueError(f"{name} {parameter['ConstraintDescription']}, not {value!r}")
        if allowed and value not in map(str, allowed):
            raise ValueError(f"{name} must be one of {allowed}, not {value!r}")
        if parameter["Type"] == "Number":
            if float(value) < parameter.get("MinValue", -1e99) or float(value) > parameter.get("MaxValue", 1e99):
                raise ValueError(f"{name} is out of range: {value}")

    def _check_rules(self) -> None:
        for name, rule in self.template.get("Rules", {}).items():
            if self._holds(rule.get("RuleCondition", {"Fn::Equals": ["", ""]})):
                for assertion in rule["Assertions"]:
                    if not self._holds(assertion["Assert"]):
                        raise ValueError(f"{name}: {assertion['AssertDescription']}")

    def _holds(self, condition: Any) -> bool:
        (function, value), = condition.items()
        if function == "Fn::Equals":
            first, second = (self.resolve(v) for v in value)
            return str(first) == str(second)
        if function == "Fn::Not":
            return not self._holds(value[0])
        if function == "Condition":
            return self._holds(self.template["Conditions"][value])
        raise NotImplementedError(function)

    def _sub(self, text: str, own: dict) -> str:
        def value(match: re.Match) -> str:
            name = match[1]
            return str(own[name] if name in own else self.resolve({"Ref": name}))

        return re.sub(r"\$\{([^}!]+)\}", value, text)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NOTHING
        if name in self.values:
            return self.values[name]
        resource = self.template["Resources"][name.split(".")[0]]
        properties = resource["Properties"]
        for named in ("BucketName", "LogGroupName", "FunctionName"):
            if named in properties:
                return self.resolve(properties[named])
        return f"<{name}>"

    def resolve(self, value: Any) -> Any:
        """The value with every function in it carried out."""
        if isinstance(value, list):
            return [r for r in map(self.resolve, value) if r is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, inner), = value.items()
            if function == "Ref":
                return self._ref(inner)
            if function == "Fn::Sub":
                text, own = (inner, {}) if isinstance(inner, str) else inner
                return self._sub(text, {k: self.resolve(v) for k, v in own.items()})
            if function == "Fn::GetAtt":
                return f"<{'.'.join(inner)}>"
            if function == "Fn::If":
                condition, yes, no = inner
                return self.resolve(yes if self._holds({"Condition": condition}) else no)
            if function.startswith("Fn::"):
                raise NotImplementedError(function)
        resolved = {k: self.resolve(v) for k, v in value.items()}
        return {k: v for k, v in resolved.items() if v is not NOTHING}

    def resources(self) -> dict[str, dict]:
        """The resources that there would be."""
        there = {}
        for name, resource in self.template["Resources"].items():
            condition = resource.get("Condition")
            if condition is None or self._holds({"Condition": condition}):
                there[name] = self.resolve({k: v for k, v in resource.items() if k != "Condition"})
        return there

    def outputs(self) -> dict[str, str]:
        """The outputs that there would be."""
        return {name: self.resolve(output["Value"]) for name, output in self.template["Outputs"].items()}
