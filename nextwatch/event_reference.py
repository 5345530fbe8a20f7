"""Write the page of all topics, ``docs/events.md``, from the AsyncAPI document.

``python -m nextwatch.event_reference > docs/events.md`` writes it. Each topic has its fields and a
program in three languages: one that sends, for topics that other applications write, else one that
reads. Tests keep the page current and run its programs.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any

from contract.wire.asyncapi import document
from contract.wire.topics import TOPICS, WATCH_EVENTS, WINDOWS, Topic

_HEAD = """# Events

Every topic of the contract: who writes it, what is in it, and a program to copy in three languages.
The machine-readable form is [asyncapi.yaml](asyncapi.yaml) (AsyncAPI 3), and this page is generated
from it.

The programs are whole, and want a broker at `127.0.0.1:9092` (`nextwatch stack up`) and one client:
kcat, `pip install confluent-kafka`, or `npm install kafkajs` and a file that ends in `.mjs`. They
send what other applications send, and read the other topics; [clients.md](clients.md) says what a
client has to set and why. A reader begins at the beginning of its topic, and goes on where it was
when it is started again: with nothing new there, it prints nothing.

Keys are UTF-8, values are JSON, times are epoch milliseconds, durations are milliseconds. Unknown
fields are ignored. A topic that is *compacted* keeps the newest record of each key, and a record
without a value removes the key.
"""

_SENT_NOW = ("event_time_ms", "uploaded_at_ms", "requested_at_ms", "erase_before_ms")
_SENT_ANEW = ("event_id", "request_id")


def render() -> str:
    """Return the page as Markdown."""
    contract = document()
    schemas = contract["components"]["schemas"]
    topics = [topic for topic in TOPICS if topic.producers]
    parts = [_HEAD, *_overview(topics)]
    described: set[str] = set()
    for topic in topics:
        parts += [f"## {topic.name}\n", _filled(_intro(topic, schemas)), ""]
        if topic.kind is not None:
            message = contract["components"]["messages"][topic.kind.__name__]
            parts += _tables(topic.kind.__name__, schemas, described)
            parts += _block("json", json.dumps(message["examples"][0]["payload"], indent=2))
        parts += _programs(topic, schemas)
    parts += _dead_letters(contract["components"]["messages"]["DeadLetter"])
    return "\n".join(parts).rstrip("\n") + "\n"


def _overview(topics: list[Topic]) -> Iterator[str]:
    yield "| topic | key | written by | read by |"
    yield "| --- | --- | --- | --- |"
    for topic in topics:
        writers, readers = ", ".join(topic.producers), ", ".join(topic.consumers)
        yield f"| [{topic.name}](#{topic.name}) | `{topic.key_field}` | {writers} | {readers} |"
    yield f"| [{WATCH_EVENTS.dlq} and others](#dead-letters) | as it was | any | a person |\n"


def _intro(topic: Topic, schemas: Mapping[str, Any]) -> str:
    kept = "compacted" if topic.cleanup == "compact" else "deleted by retention"
    said = f"{topic.what[0].upper()}{topic.what[1:]}. "
    if topic.kind is not None:
        said += f"{_of_one_line(schemas[topic.kind.__name__]['description'])} "
    said += f"Records are {kept}; a value has at most {topic.max_value_bytes:,} bytes. "
    if topic.dead_lettered_by:
        said += f"What breaks a bound is kept on `{topic.dlq}` by {topic.dead_lettered_by}."
    return said.strip()


def _tables(name: str, schemas: Mapping[str, Any], described: set[str]) -> Iterator[str]:
    """Yield the fields of the struct *name*, and of those in it that no table had before."""
    todo = [name]
    while todo:
        current = todo.pop(0)
        if current in described:
            continue
        described.add(current)
        schema = schemas[current]
        if current != name:
            yield from (_filled(f"**{current}**: {_of_one_line(schema['description'])}"), "")
        yield from ("| field | what | |", "| --- | --- | --- |")
        for field, given in schema["properties"].items():
            default = given.get("default")
            need = "required" if field in schema["required"] else _default(default)
            yield f"| `{field}` | {_type(given, schemas)} | {need} |"
            todo += [inner for inner in _structs(given) if "properties" in schemas[inner]]
        yield ""


def _default(default: object) -> str:
    empty = default is None or default in ({}, [], "")
    return "optional" if empty else f"optional, else `{json.dumps(default)}`"


def _structs(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that *schema* refers to, in arrays and alternatives too."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    for inner in [schema.get("items", {}), *schema.get("anyOf", ())]:
        yield from _structs(inner) if inner else ()


def _type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """Return *schema* in words: the type, its bounds and what it is."""
    if "anyOf" in schema:
        return ", or ".join(_type(each, schemas) for each in schema["anyOf"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        target = schemas[name]
        if "properties" in target:
            return f"an object, {name}"
        if "enum" in target:
            return "one of " + ", ".join(f"`{word}`" for word in target["enum"])
        return str(target["description"]).partition(";")[0]
    words = [str(schema.get("type", "any value")), _bounds(schema)]
    if schema.get("contentEncoding"):
        words.append(f"in {schema['contentEncoding']}")
    if schema.get("description"):
        words.append(schema["description"].partition("; x-meanings")[0])
    if schema.get("x-meanings"):
        words.append("today one of " + ", ".join(f"`{word}`" for word in schema["x-meanings"]))
    if schema.get("items"):
        words.append(f"each {_type(schema['items'], schemas)}")
    return ", ".join(filter(None, words))


def _bounds(schema: Mapping[str, Any]) -> str:
    for unit, least, most in (
        ("characters", "minLength", "maxLength"),
        ("items", "minItems", "maxItems"),
        ("", "minimum", "maximum"),
    ):
        if most in schema:
            first = schema.get(least, 0)
            return f"{first:,.15g} to {schema[most]:,.15g} {unit}".rstrip()
    return f"at least {schema['minimum']:,}" if "minimum" in schema else ""


def _programs(topic: Topic, schemas: Mapping[str, Any]) -> Iterator[str]:
    if not topic.is_from_outside:
        yield from _readers(topic.name, is_json=topic is not WINDOWS)
        return
    assert topic.kind is not None
    contract = document()["components"]["messages"][topic.kind.__name__]
    fields = contract["examples"][0]["payload"]
    assert set(fields) <= set(schemas[topic.kind.__name__]["properties"])
    yield from _block("bash", _kcat_send(topic, fields))
    yield from _block("python", _python_send(topic, fields))
    yield from _block("javascript", _javascript_send(topic, fields))


def _kcat_send(topic: Topic, fields: Mapping[str, Any]) -> str:
    live = dict.fromkeys(_SENT_ANEW, "${id}") | dict.fromkeys(_SENT_NOW, "${now}")
    value = json.dumps({name: live.get(name, given) for name, given in fields.items()})
    for name in _SENT_NOW:
        value = value.replace(f'"{name}": "${{now}}"', f'"{name}": ${{now}}')
    before = ["id=$(uuidgen)"] if "${id}" in value else []
    before += ["now=$(date +%s)000"]
    send = (
        f"kcat -P -b 127.0.0.1:9092 -t {topic.name} -k {_shell(fields[topic.key_field])} "
        "-X partitioner=murmur2_random <<END"
    )
    return "\n".join([*before, send, value, "END"])


def _shell(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _python_send(topic: Topic, fields: Mapping[str, Any]) -> str:
    imports = ["json", "time", *(["uuid"] if set(_SENT_ANEW) & set(fields) else [])]
    now, anew = "int(time.time() * 1000)", "str(uuid.uuid4())"
    live = dict.fromkeys(_SENT_NOW, now) | dict.fromkeys(_SENT_ANEW, anew)
    lines = [f'    "{name}": {live.get(name) or _python(given)},' for name, given in fields.items()]
    config = '{"bootstrap.servers": "127.0.0.1:9092", "partitioner": "murmur2_random"}'
    record = f'"{topic.name}", key=event["{topic.key_field}"], value=json.dumps(event)'
    return "\n".join(
        [
            *(f"import {name}" for name in imports),
            "\nfrom confluent_kafka import Producer\n",
            f"producer = Producer({config})",
            "event = {",
            *lines,
            "}",
            f"producer.produce({record})",
            "if producer.flush(10):",
            '    raise SystemExit("not acknowledged within 10 s")',
        ]
    )


def _python(value: object) -> str:
    words = {"true": "True", "false": "False", "null": "None"}
    text = json.dumps(value)
    return words.get(text, text)


def _javascript_send(topic: Topic, fields: Mapping[str, Any]) -> str:
    has_id = bool(set(_SENT_ANEW) & set(fields))
    live = dict.fromkeys(_SENT_NOW, "Date.now()") | dict.fromkeys(_SENT_ANEW, "randomUUID()")
    lines = [f"  {name}: {live.get(name) or json.dumps(given)}," for name, given in fields.items()]
    return "\n".join(
        [
            *(['import { randomUUID } from "node:crypto";'] if has_id else []),
            'import { Kafka, Partitioners } from "kafkajs";\n',
            'const kafka = new Kafka({ brokers: ["127.0.0.1:9092"] });',
            "const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });",
            "const event = {",
            *lines,
            "};",
            "await producer.connect();",
            f"const messages = [{{ key: event.{topic.key_field}, value: JSON.stringify(event) }}];",
            f'await producer.send({{ topic: "{topic.name}", messages }});',
            "await producer.disconnect();",
        ]
    )


def _readers(name: str, *, is_json: bool, has_headers: bool = False) -> Iterator[str]:
    """Yield the programs that read the topic *name* from its beginning on."""
    shown = ("%k %h %s" if has_headers else "%k %s") if is_json else "%k %S bytes"
    yield from _block("bash", f"kcat -C -b 127.0.0.1:9092 -t {name} -o beginning -f '{shown}\\n'")
    value = "json.loads(value)" if is_json and not has_headers else "value"
    extra = ", message.headers()" if has_headers else ""
    yield from _block(
        "python",
        "\n".join(
            [
                *(["import json\n"] if "json" in value else []),
                "from confluent_kafka import Consumer\n",
                f'settings = {{"group.id": "reader-of-{name}", "auto.offset.reset": "earliest"}}',
                'consumer = Consumer({"bootstrap.servers": "127.0.0.1:9092", **settings})',
                f'consumer.subscribe(["{name}"])',
                "try:",
                "    while True:",
                "        message = consumer.poll(1.0)",
                "        if message is None or message.error():",
                "            continue  # nothing came, or the broker is away",
                "        value = message.value()",
                f"        shown = None if value is None else {value}",
                f"        print(message.key().decode(), shown{extra}, flush=True)",
                "except KeyboardInterrupt:",
                "    consumer.close()  # leaves the group",
            ]
        ),
    )
    shown = "JSON.parse(message.value)" if "json" in value else "message.value"
    extra = ", message.headers" if has_headers else ""
    yield from _block(
        "javascript",
        "\n".join(
            [
                'import { Kafka } from "kafkajs";\n',
                'const kafka = new Kafka({ brokers: ["127.0.0.1:9092"] });',
                f'const consumer = kafka.consumer({{ groupId: "js-reader-of-{name}" }});',
                "const leave = () => consumer.disconnect().finally(() => process.exit());",
                'for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, leave);',
                "await consumer.connect();",
                f'await consumer.subscribe({{ topic: "{name}", fromBeginning: true }});',
                "await consumer.run({",
                "  eachMessage: async ({ message }) => {",
                f"    const shown = message.value === null ? null : {shown};",
                f"    console.log(message.key.toString(), shown{extra});",
                "  },",
                "});",
            ]
        ),
    )


def _dead_letters(message: Mapping[str, Any]) -> Iterator[str]:
    yield "## Dead letters\n"
    yield _filled(
        "A record that cannot be decoded or breaks a bound is kept, with its key, value and "
        "headers as they were, on the topic of its name and `.dlq`. Why it is there is in its "
        "headers. `nextwatch dlq` lists, shows and replays them "
        "([operations.md](operations.md#dead-letters))."
    )
    yield "\n| header | what |\n| --- | --- |"
    for header, given in message["headers"]["properties"].items():
        yield f"| `{header}` | {given['description'].replace(' (see x-meanings)', '')} |"
    yield "\n| reason | what |\n| --- | --- |"
    for reason, what in message["headers"]["properties"]["dlq.reason"]["x-meanings"].items():
        yield f"| `{reason}` | {what} |"
    yield ""
    yield from _readers(WATCH_EVENTS.dlq, is_json=True, has_headers=True)


def _block(language: str, text: str) -> Iterator[str]:
    yield f"```{language}\n{text}\n```\n"


def _of_one_line(text: str) -> str:
    """Return *text*, a docstring, with double backticks as Markdown has them."""
    return " ".join(text.replace("``", "`").split())


def _filled(text: str) -> str:
    return fill(text, 100, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.stdout.write(render())
