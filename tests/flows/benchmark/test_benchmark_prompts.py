"""Prompts from every kind of source, and every kind of unusable one."""

from __future__ import annotations

import json

import pytest

from contracts.errors import InvalidInput
from flows.benchmark.prompts import HPDV2_REPOSITORY, STYLES, categories, read_prompts
from tabletop import captions
from tabletop.judging import asked_for

SEED = 52_000
"""Of the shipped set."""


def written(tmp_path, name: str, content: str | bytes):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_the_tabletop_set_is_the_draw_it_says_it_is() -> None:
    prompts = read_prompts("tabletop")
    scenes = [*captions.drawn_scenes(240, SEED), *captions.drawn_scenes(160, SEED, 2)]
    assert len(prompts) == 400
    assert {p.text for p in prompts} == {captions.scene_caption(scene) for scene in scenes}
    assert len({p.id for p in prompts}) == 400
    assert set(categories(prompts)) == {"ball", "cube", "cylinder", "cone", "ring", "two solids"}
    assert all(asked_for(p.text) is not None for p in prompts)


def test_a_part_of_a_set_is_spread_over_all_of_it() -> None:
    whole, part = read_prompts("tabletop"), read_prompts("tabletop", 40)
    assert len(part) == 40 and set(part) <= set(whole)
    assert len(categories(part)) == 6
    assert read_prompts("tabletop", 400) == whole


def test_text_csv_and_jsonl_say_the_same(tmp_path) -> None:
    text = written(tmp_path, "a.txt", "# a comment\na red cone\n\n a blue ball \n")
    table = written(tmp_path, "a.csv", '\ufeffid,prompt,category\nx,a red cone,cone\ny,"a ball, blue",ball\n')
    lines = written(tmp_path, "a.jsonl", '{"prompt": "a red cone", "id": 7}\n\n{"prompt": "a blue ball"}\n')
    assert [(p.id, p.text) for p in read_prompts(text)] == [
        ("line-2", "a red cone"),
        ("line-4", "a blue ball"),
    ]
    assert [(p.id, p.text, p.category) for p in read_prompts(table)] == [
        ("x", "a red cone", "cone"),
        ("y", "a ball, blue", "ball"),
    ]
    assert [(p.id, p.category) for p in read_prompts(lines)] == [("7", ""), ("line-3", "")]


def test_a_json_list_holds_texts_or_objects(tmp_path) -> None:
    path = written(tmp_path, "a.json", '["a red cone", {"prompt": "a blue ball", "category": "ball"}]')
    assert [(p.id, p.text, p.category) for p in read_prompts(path)] == [
        ("line-1", "a red cone", ""),
        ("line-2", "a blue ball", "ball"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "holds no prompt"),
        ("a.txt", "# nothing\n", "holds no prompt"),
        ("a.txt", b"a red cone\na \xff ball\n", "line 2: byte 3 is not UTF-8"),
        ("a.txt", "a cone\n" + "many words " * 1_000, "line 2: the prompt has 10,999 characters"),
        ("a.txt", "a cone\na cone\n", "line 2: the prompt was given before, in .*line 1"),
        ("a.txt", "a red cone\na  red cone\n", "line 2: the prompt was given before, in .*line 1"),
        ("a.csv", "id,prompt\n1,a cone\n1,a ball\n", "line 3: the id '1' was given before"),
        ("a.csv", "id,text\n1,a cone\n", "one of them 'prompt'"),
        ("a.csv", "id,prompt\n1,a cone, red\n", "more cells than columns"),
        ("a.jsonl", '{"prompt": "a cone"}\nred', "line 2: not JSON"),
        ("a.jsonl", '["a cone"]', "write an object"),
        ("a.json", '{"prompt": "a cone"}', "must hold a JSON list"),
        ("a.json", '["a cone", 7]', "must hold a JSON list"),
        ("a.json", '["a cone"', "not JSON"),
        ("a.json", '["a cone", "a cone"]', "prompt 2: the prompt was given before, in .*prompt 1"),
        ("a.jsonl", '{"text": "a cone"}', "the prompt is missing"),
        ("a.jsonl", '{"prompt": ["a cone"]}', "prompt must be text"),
        ("a.jsonl", '{"prompt": "  "}', "line 1: the prompt is empty"),
        ("a.jsonl", '{"prompt": "a cone", "id": "\\ud800"}', "line 1: id holds half a character"),
        ("a.csv", 'prompt,"id\n' + "x" * 200_000, "field larger than field limit"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path, name, content, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_prompts(written(tmp_path, name, content))


def test_a_prompt_can_bring_a_picture_along(tmp_path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    table = written(tmp_path, "a.csv", "prompt,image\na red cone,pictures/a.png\na blue ball,\n")
    assert [p.image for p in read_prompts(table)] == [str(tmp_path / "pictures" / "a.png"), ""]
    lines = written(tmp_path, "a.jsonl", '{"prompt": "a red cone", "image": "pictures/b.png"}')
    with pytest.raises(InvalidInput, match="line 1: there is no picture pictures/b.png"):
        read_prompts(lines)


@pytest.mark.parametrize(
    ("n", "message"), [(0, "choose 1 or more"), (401, "holds 400 prompts"), (-3, "1 or m")]
)
def test_a_number_of_prompts_that_is_not_there(n, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_prompts("tabletop", n)


def test_a_missing_file_is_said() -> None:
    with pytest.raises(InvalidInput, match="nowhere.csv cannot be read"):
        read_prompts("nowhere.csv")


def hpdv2(folder, count: int = 3):
    folder.mkdir(parents=True)
    for style in STYLES:
        texts = [f"{style} of a cat, number {i}" for i in range(count)]
        (folder / f"{style}.json").write_text(json.dumps(texts))
    return folder


def test_hpdv2_from_a_folder_has_all_styles_in_any_part(tmp_path) -> None:
    hpdv2(tmp_path / "HPDv2" / "benchmark", 8)
    whole = read_prompts(str(tmp_path / "HPDv2"))
    assert len(whole) == 32 and whole == read_prompts(str(tmp_path / "HPDv2" / "benchmark"))
    assert categories(read_prompts(str(tmp_path / "HPDv2"), 4)) == list(STYLES)
    assert whole[0].id == "anime-00000"


def test_what_hpdv2_repeats_counts_once(tmp_path) -> None:
    folder = hpdv2(tmp_path / "repeats", 2)
    (folder / "anime.json").write_text(json.dumps(["a cat", "a  cat "]))
    (folder / "photo.json").write_text(json.dumps(["a dog", "a cat"]))
    prompts = read_prompts(str(folder))
    assert [p.text for p in prompts if p.category in ("anime", "photo")] == ["a cat", "a dog"]


def test_hpdv2_from_the_hub(tmp_path, monkeypatch) -> None:
    import huggingface_hub

    folder = hpdv2(tmp_path / "hub" / "benchmark")
    asked = []

    def download(repository, name, repo_type):
        asked.append((repository, repo_type))
        return str(folder.parent / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert len(read_prompts("hpdv2")) == 12
    assert set(asked) == {(HPDV2_REPOSITORY, "dataset")}

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(InvalidInput, match="no network.*name a folder"):
        read_prompts("hpdv2")


def test_a_folder_that_is_no_hpdv2(tmp_path) -> None:
    with pytest.raises(InvalidInput, match="has no anime.json"):
        read_prompts(str(tmp_path))
    hpdv2(tmp_path / "odd")
    (tmp_path / "odd" / "photo.json").write_text('{"a": 1}')
    with pytest.raises(InvalidInput, match="must hold a JSON list"):
        read_prompts(str(tmp_path / "odd"))
