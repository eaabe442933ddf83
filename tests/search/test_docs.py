"""The page about search engines names every option with its default."""

from pathlib import Path

from thalweg.search.engines import engine_options, registry

PAGE = (Path(__file__).parents[2] / "docs" / "search-engines.md").read_text(encoding="utf-8")


def written(default):
    table = [(None, "none"), (True, "true"), (False, "false")]
    plain = next((text for value, text in table if value is default), None)
    return plain or {1 / 9: "1/9", 3.0: "3", 1e-4: "1e-4"}.get(default, str(default))


def test_every_option_is_in_the_table():
    rows, kind = {}, ""
    for line in PAGE.split("## Options")[1].split("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and "`" in cells[1]:
            kind = cells[0].strip("`") or kind
            for name in cells[1].split(","):
                rows[kind, name.strip(" `")] = cells[2]
    for kind in registry:
        known = {name: default for name, default in engine_options(kind).items() if name != "start_first"}
        assert {name for at, name in rows if at == kind} == set(known)
        for name, default in known.items():
            assert rows[kind, name] == written(default)


def test_every_engine_is_in_the_table():
    for kind in registry:
        assert f"`{kind}`" in PAGE.split("## Which one")[1].split("```")[0]
