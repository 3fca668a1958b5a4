"""Writes what is made from the code, references under docs/ and schemas for programs: `make generate`.

references      settings.md, metrics.md, commands.md: from the settings, the list of metrics, the commands themselves
management_api  openapi.json, management-api.md: from the table of routes
json_schemas    schemas/jsonschema/, event-types.md: from the event classes
asyncapi        schemas/asyncapi.json, schemas/examples/: from those, topics, headers and the payloads of the tests
alerts          k8s/monitoring/: the rules of Prometheus, from the alerts in alert_list.py
dashboard       k8s/monitoring/dashboard.json: the panels of Grafana
compatibility   what a change of a published schema breaks; `--release-schemas` freezes them as released

`tests/contract/test_generated.py` proves that all of it is fresh.
"""
