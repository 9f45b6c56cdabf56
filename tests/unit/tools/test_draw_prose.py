"""`draw_prose` draws texts from all folders of the code; the same seed draws the same texts."""

from __future__ import annotations

import pytest

from tools import draw_prose
from tools.draw_prose import Prose

MODULE = '''"""A module that says something."""

LIMIT = 3
"""How many things may wait at once."""


class Queue:
    """A queue of things that wait."""

    def put(self, thing: str) -> None:
        """Put a thing at the end of the queue."""
        # The oldest thing goes first,
        # because it waited longest.
        if len(thing) > LIMIT:  # counts characters, not bytes
            raise ValueError(f"{thing} is too long: at most {LIMIT} characters")
        return None  # noqa: RET501
'''


def test_docstrings_comments_and_messages_of_a_module_are_found() -> None:
    found = list(draw_prose.of_python("services/midstreamer/sync/queue.py", MODULE))

    assert {(each.kind, each.text, each.code) for each in found} == {
        ("docstring", "A module that says something.", ""),
        ("docstring", "How many things may wait at once.", "LIMIT = 3"),
        ("docstring", "A queue of things that wait.", "class Queue:"),
        (
            "docstring",
            "Put a thing at the end of the queue.",
            "def put(self, thing: str) -> None:",
        ),
        (
            "comment",
            "The oldest thing goes first,\nbecause it waited longest.",
            "if len(thing) > LIMIT:  # counts characters, not bytes",
        ),
        ("comment", "counts characters, not bytes", "if len(thing) > LIMIT:"),
        (
            "message",
            "{thing} is too long: at most {LIMIT} characters",
            'raise ValueError(f"{thing} is too long: at most {LIMIT} characters")',
        ),
    }
    assert [each.place.partition(" ")[2] for each in found if each.kind == "docstring"] == [
        "", "LIMIT", "Queue", "Queue.put",
    ]  # fmt: skip
    assert {each.room for each in found} == {"services/midstreamer/sync"}


def test_comments_of_charts_are_found_run_by_run() -> None:
    text = (
        "# How many agents\n# hold shards.\nreplicas: 3\n"
        "{{- /* Only with\n  a pool. */ -}}\nkind: A\n"
    )
    found = [(each.text, each.code) for each in draw_prose.of_yaml("charts/a/values.yaml", text)]
    assert found == [
        ("How many agents\nhold shards.", "replicas: 3"),
        ("Only with\na pool.", "kind: A"),
    ]


def test_a_function_is_shown_with_its_whole_signature() -> None:
    source = 'def put(\n    self, thing: str\n) -> None:\n    """Put a thing at the end."""\n'
    (found,) = draw_prose.of_python("a.py", source)
    assert found.code == "def put( self, thing: str ) -> None:"


def test_a_message_is_shown_with_its_whole_call() -> None:
    source = 'raise BadInput(\n    f"{size} is too large"\n)\n'
    (found,) = draw_prose.of_python("a.py", source)
    assert found.code == 'raise BadInput( f"{size} is too large" )'


def test_a_text_is_shown_with_the_summaries_of_its_module_and_class() -> None:
    found = draw_prose.of_python("a.py", MODULE)
    module, queue = "A module that says something.", "A queue of things that wait."
    assert {each.text.partition("\n")[0]: each.within for each in found} == {
        module: (),
        "How many things may wait at once.": (module,),
        queue: (module,),
        "Put a thing at the end of the queue.": (module, queue),
        "The oldest thing goes first,": (module,),
        "counts characters, not bytes": (module,),
        "{thing} is too long: at most {LIMIT} characters": (module,),
    }


def test_the_same_seed_draws_the_same_and_another_draws_other_texts() -> None:
    texts = [Prose(f"room{at % 5}", f"place {at}", "comment", "text") for at in range(500)]
    assert draw_prose.draw(1, texts) == draw_prose.draw(1, texts)
    assert draw_prose.draw(1, texts) != draw_prose.draw(2, texts)


def test_no_text_is_drawn_twice_and_a_small_room_is_not_hidden_by_a_large_one() -> None:
    texts = [Prose("large", f"place {at}", "comment", "text") for at in range(10_000)]
    texts += [Prose("small", f"other {at}", "comment", "text") for at in range(100)]

    drawn = draw_prose.draw(3, texts)

    assert len(set(drawn)) == draw_prose.COUNT
    assert 25 < sum(each.room == "small" for each in drawn) < 75


def test_all_of_few_texts_are_drawn() -> None:
    texts = [Prose("room", f"place {at}", "comment", "text") for at in range(7)]
    assert sorted(draw_prose.draw(3, texts)) == sorted(texts)


@pytest.mark.slow
def test_the_repository_has_texts_in_every_room() -> None:
    rooms = {each.room for each in draw_prose.everything()}
    assert {"charts", "operator/midstreamer_operator", "services/midstreamer/sync"} <= rooms


@pytest.mark.slow
def test_the_command_prints_as_many_as_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert draw_prose.main(["1", "--count", "3"]) == 0
    assert "3. " in capsys.readouterr().out
