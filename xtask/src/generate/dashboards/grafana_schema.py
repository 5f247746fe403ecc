"""Grafana's published types for dashboards, as one JSON document that the test beside this file holds our dashboards against.

Reads the Grafana Foundation SDK, whose classes are made from Grafana's own schemas; writes every class that a dashboard of ours can reach:
its fields by their names in JSON, and their types. Run it again for a newer Grafana:

    python3 -m venv /tmp/grafana && /tmp/grafana/bin/pip install --require-hashes --no-deps -r xtask/src/generate/dashboards/grafana_schema.txt
    /tmp/grafana/bin/python xtask/src/generate/dashboards/grafana_schema.py > xtask/src/generate/dashboards/grafana_schema.json
"""

import enum
import importlib
import importlib.metadata
import inspect
import json
import re
import types
import typing

from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common, dashboard, prometheus

# The panels we draw. What is their own is in a module of their name.
PANELS = ["bargauge", "stat", "statetimeline", "table", "timeseries"]

classes = {}
waiting = []


def name_of(kind):
    return f"{kind.__module__.rsplit('.', 1)[-1]}.{kind.__name__}"


def described(hint):
    """A type, as the checker knows it."""
    if hint in (typing.Any, object):
        return "any"
    if hint is variants.Dataquery:
        return described(prometheus.Dataquery)
    if hint in (bool, int, float, str):
        return {bool: "bool", int: "int", float: "number", str: "string"}[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"any_of": ["null" if one is type(None) else described(one) for one in arguments]}
    if origin is typing.Literal:
        return {"one_of": sorted(arguments)}
    if origin is list:
        return {"list": described(arguments[0])}
    if origin is dict:
        return {"map": described(arguments[1])}
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return {"one_of": sorted(member.value for member in hint)}
    if inspect.isclass(hint) and hasattr(hint, "from_json"):
        waiting.append(hint)
        return {"class": name_of(hint)}
    raise SystemExit(f"no word for {hint}")


def fields(kind):
    """Names in JSON and types of a class's fields; which is which stands in how it is written."""
    names = re.findall(r'(?:"([^"]+)": |payload\["([^"]+)"\] = )self\.(\w+)', inspect.getsource(kind.to_json))
    names = {one or other: attribute for one, other, attribute in names}
    hints = typing.get_type_hints(kind)
    return {name: described(hints[attribute]) for name, attribute in sorted(names.items())}


def reach():
    while waiting:
        kind = waiting.pop()
        if name_of(kind) not in classes:
            classes[name_of(kind)] = {}
            classes[name_of(kind)] = fields(kind)


waiting.append(dashboard.Dashboard)
panels = {}
for panel in PANELS:
    module = importlib.import_module(f"grafana_foundation_sdk.models.{panel}")
    own = {"options": described(module.Options)}
    if hasattr(module, "FieldConfig"):
        own["custom"] = described(module.FieldConfig)
    panels[panel] = own
# What a table says of a column by itself is no class of the table's.
panels["table"].setdefault("custom", described(common.TableFieldOptions))
reach()
version = importlib.metadata.version("grafana_foundation_sdk")
print(json.dumps({"from": f"grafana-foundation-sdk {version}", "panels": panels, "classes": dict(sorted(classes.items()))}, indent=1))
