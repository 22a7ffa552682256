from __future__ import annotations

from pathlib import Path

import pytest

from controller.catalogue import Catalogue, load_catalogue
from controller.errors import ExperimentError
from controller.experiment import Experiment, parse_experiment, read_experiment
from controller.levels import expand_levels

CATALOGUE = Catalogue(
    handlers=("multiplexed", "multiplexed-stock", "threaded"),
    workloads={"cpu": ("us",), "hello": (), "mixed": ("us", "ms")},
)
GOOD = """\
name: multiplexing-2007
question: Do you gain from FCGI connection multiplexing?
hosts: targets
factors:
  handler: [threaded, multiplexed]
  processes: 1..16
load: {tool: ab, concurrency: 32, warmup_s: 2, measure_s: 5, keepalive: false}
workload: hello
design: {blocks: 10, seed: 2007, indifference: 2%}
"""


def parse(text: str) -> Experiment:
    return parse_experiment(Path("x.yml"), text, CATALOGUE).experiment


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ExperimentError) as caught:
        parse(text)
    return caught.value.problems


def test_the_contract_example_is_read_as_meant() -> None:
    experiment = parse(GOOD)
    assert experiment.factors.processes == tuple(range(1, 17))
    assert experiment.design.indifference == 0.02
    assert experiment.normalised()["factors"] == {
        "handler": ["threaded", "multiplexed"],
        "processes": list(range(1, 17)),
        "concurrency": [32],
        "keepalive": [False],
        "cores": ["all"],
        "placement": ["shared"],
        "workload": ["hello"],
        "lighttpd": ["default"],
        "python": ["default"],
        "connections": None,
        "in_flight": None,
        "keep_conn": None,
    }
    assert experiment.normalised()["measure"] == "rate"


def test_normalising_is_stable_and_decides_the_fingerprint() -> None:
    spelled_out = GOOD.replace("1..16", str(list(range(1, 17)))).replace("2%", "0.02")
    assert parse(GOOD).fingerprint() == parse(spelled_out).fingerprint()
    assert parse(GOOD).fingerprint() != parse(GOOD.replace("seed: 2007", "seed: 2008")).fingerprint()
    assert Experiment.model_validate(parse(GOOD).model_dump(mode="json")) == parse(GOOD)


@pytest.mark.parametrize(
    ("written", "levels"),
    [
        (4, (4,)),
        ("1..4", (1, 2, 3, 4)),
        ("1..8 step 3", (1, 4, 7)),
        ([1, "4..6", 16], (1, 4, 5, 6, 16)),
        (["threaded"], ("threaded",)),
    ],
)
def test_levels_are_a_value_a_list_or_ranges(written: object, levels: tuple[object, ...]) -> None:
    assert expand_levels(written) == levels


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("processes:", "procesess:"), 6, ["unknown key 'procesess'", "did you mean 'processes'?"]),
        (("measure_s", "mesure_s"), 7, ["unknown key 'mesure_s' in 'load'", "did you mean 'measure_s'?"]),
        (("workload: hello", "workload: helo"), 8, ["unknown workload 'helo'", "did you mean 'hello'?"]),
        (("workload: hello", "workload: cup(5)"), 8, ["unknown workload 'cup'", "did you mean 'cpu'?"]),
        (("workload: hello", "workload: cpu(1,2)"), 8, ["'cpu(1,2)' has 2 parameters; write 'cpu(us)'"]),
        (("workload: hello", "workload: hello(3)"), 8, ["'hello(3)' has 1 parameters; write 'hello'"]),
        (("workload: hello", "workload: cpu(-1)"), 8, ["'cpu(-1)' is no workload", "as in cpu(500)"]),
        (("workload: hello", "workload: cpu()"), 8, ["'cpu()' is no workload"]),
        (("workload: hello", "workload: cpu[5]"), 8, ["'cpu[5]' is no workload"]),
        (("multiplexed]", "multiplex]"), 5, ["unknown handler 'multiplex'", "did you mean 'multiplexed'?"]),
        (("multiplexed]", "gevent9]"), 5, ["unknown handler", "known: multiplexed, multip"]),
        (("multiplexed]", "static]"), 5, ["'static' is no level", "leave it out"]),
        (("multiplexed]", "threaded]"), 5, ["the level 'threaded' twice"]),
        (("1..16", "16..1"), 6, ["empty range '16..1'", "1..16"]),
        (("1..16", "[]"), 6, ["empty list"]),
        (("1..16", "[0]"), 6, ["greater than or equal to 1"]),
        (("1..16", "1..100000000"), 6, ["more than 1000 levels"]),
        (("1..16", "four"), 6, ["'four'", "valid integer"]),
        (("1..16", "[true]"), 6, ["True", "valid integer"]),
        (("ab,", "jmeter,"), 7, ["load.tool 'jmeter'", "'ab', 'wrk', 'h2load' or 'fcgi'"]),
        (("measure_s: 5", "measure_s: five"), 7, ["load.measure_s 'five'", "valid number"]),
        (("blocks: 10", "blocks: 0"), 9, ["design.blocks 0", "greater than or equal to 1"]),
        (("2%", "200%"), 9, ["design.indifference '200%'", "less than 0.5"]),
        (("2%", "2"), 9, ["design.indifference", "between 0 and 0.5", "2% is written with its sign"]),
        (("name: multiplexing-2007", "name: ../etc"), 1, ["name '../etc'", "lower-case letters"]),
        (("  processes: 1..16\n", ""), 4, ["the key 'processes' is missing in 'factors'"]),
        (("  processes: 1..16", "  processes: 1..16\n  cores: [half]"), 7, ["a number of cores or 'all'"]),
        (("  processes: 1..16", "  processes: 1..16\n  placement: far"), 7, ["'split' or 'remote'"]),
        (("  processes:", "  concurrency: 8\n  processes:"), 6, ["load.concurrency", "remove one"]),
        (("workload: hello", "name: twice"), 8, ["the key 'name' stands here twice"]),
        (("hosts: targets", "hosts: ["), 5, ["expected"]),
        (("workload: hello", "workload: {{ mine }}"), 8, ["a key must be a word", "needs quotes"]),
        (("workload: hello", "? [1, 2]\n: x"), 8, ["a key must be a word"]),
        (("hosts: targets", "hosts: 2026-13-45"), 3, ["'2026-13-45' cannot be read", "put it in quotes"]),
    ],
)  # fmt: skip
def test_bad_input_names_file_line_and_remedy(change: tuple[str, str], line: int, words: list[str]) -> None:
    assert change[0] in GOOD
    found = problems(GOOD.replace(*change))
    assert len(found) == 1, found
    assert found[0].startswith(f"x.yml:{line}: ")
    for word in words:
        assert word in found[0]


WIRE = GOOD.replace(
    "  processes: 1..16\nload: {tool: ab, concurrency: 32, warmup_s: 2, measure_s: 5, keepalive: false}",
    "  processes: 1\n  connections: [1, 8]\n  in_flight: [1, 8]\n  keep_conn: [true, false]\n"
    "load: {tool: fcgi, concurrency: 8}",
)


def test_the_factors_of_the_wire_are_read() -> None:
    factors = parse(WIRE).normalised()["factors"]
    assert (factors["connections"], factors["in_flight"], factors["keep_conn"]) == (
        [1, 8],
        [1, 8],
        [True, False],
    )
    assert factors["concurrency"] == [8]


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("tool: fcgi", "tool: ab"), 7, ["connections is a factor of the wire", "load.tool fcgi, not ab"]),
        (("  in_flight", "  lighttpd: default\n  in_flight"), 8, ["without lighttpd; remove the factor"]),
        (("  in_flight", "  keepalive: true\n  in_flight"), 8, ["use factors.keep_conn"]),
        (("concurrency: 8", "concurrency: 8, keepalive: true"), 10, ["use factors.keep_conn"]),
        (("workload: hello", "measure: startup"), 11, ["startup is measured from lighttpd's start"]),
        (("workload: hello", "measure: latency"), 11, ["measure 'latency'", "'rate' or 'startup'"]),
        (("connections: [1, 8]", "connections: 0"), 7, ["greater than or equal to 1"]),
        (("in_flight: [1, 8]", "in_flight: 70000"), 8, ["less than or equal to 65535"]),
    ],
)  # fmt: skip
def test_what_says_nothing_on_the_wire_is_refused(
    change: tuple[str, str], line: int, words: list[str]
) -> None:
    assert change[0] in WIRE
    found = problems(WIRE.replace(*change))
    assert found[0].startswith(f"x.yml:{line}: "), found
    for word in words:
        assert word in found[0]


def test_all_problems_are_told_at_once_in_file_order() -> None:
    found = problems(GOOD.replace("1..16", "0").replace("blocks: 10", "block: 10").replace("hello", "[1]"))
    assert [problem.split(":")[1] for problem in found] == ["6", "8", "9"]


def test_workloads_with_parameters_are_levels() -> None:
    varied = GOOD.replace("workload: hello\n", "").replace(
        "  processes:", "  workload: [hello, cpu, cpu(200), cpu(1000), 'mixed(500,5)']\n  processes:"
    )
    experiment = parse(varied)
    assert experiment.workloads == ("hello", "cpu", "cpu(200)", "cpu(1000)", "mixed(500,5)")
    assert parse(GOOD).workloads == ("hello",)


def test_a_workload_that_yaml_cuts_in_two_is_explained() -> None:
    found = problems(
        GOOD.replace("workload: hello\n", "").replace(
            "  processes:", "  workload: [mixed(500,5)]\n  processes:"
        )
    )
    assert found[0].startswith("x.yml:6: workload 'mixed(500' was cut off at a comma; write it in quotes")


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list\n"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    assert "must be a mapping with the keys name, question" in problems(text)[0]


def test_an_alias_that_contains_itself_is_refused() -> None:
    assert "nested more than" in problems("name: &a [*a]\n")[0]


def test_a_missing_file_is_named_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "other.yml").write_text(GOOD)
    with pytest.raises(ExperimentError, match=r"gone\.yml: cannot be read.*other\.yml"):
        read_experiment(tmp_path / "gone.yml", CATALOGUE)


def test_a_file_of_the_checkout_is_looked_for_among_its_experiments(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "other.yml").write_text(GOOD)
    (tmp_path / "provision.yml").write_text("- hosts: all\n")
    with pytest.raises(ExperimentError, match=r"files: [^,]*experiments/other\.yml$"):
        read_experiment(tmp_path / "gone.yml", CATALOGUE)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yml").write_bytes(GOOD.replace("Do", "Dö").encode("latin-1"))
    with pytest.raises(ExperimentError, match="not UTF-8"):
        read_experiment(tmp_path / "latin.yml", CATALOGUE)


def test_the_catalogue_is_read_from_file_names_without_importing(tmp_path: Path) -> None:
    for folder, name in (("models", "pre_fork"), ("models", "_private"), ("workloads", "hello")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "workloads/cpu.py").write_text("PARAMETERS = ('us',)\nraise SystemExit('imported')\n")
    (tmp_path / "models/pre_fork.py").write_text(
        "raise SystemExit('imported')\n"
        "MODEL = Model(summary='s', serve=serve, peak_in_process=1, multiplexes=False)\n"
    )
    assert load_catalogue(tmp_path) == Catalogue(
        handlers=("pre-fork",),
        workloads={"cpu": ("us",), "hello": ()},
        promises={"pre-fork": {"summary": "s", "peak_in_process": 1, "multiplexes": False}},
    )


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "experiments").glob("*.yml")), ids=str)
def test_the_experiments_that_ship_are_valid(path: Path) -> None:
    assert read_experiment(path, load_catalogue()).experiment.name == path.stem
