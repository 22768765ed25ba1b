"""Requests that a machine makes up from the OpenAPI document, good ones and bad ones: never a 500, never an
answer that the document does not know."""

from __future__ import annotations

import pytest
import schemathesis
from api_samples import HEADERS, TOKEN, listening, make_service, scripted_tools
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

EXAMPLES = 12
"""Of each operation: seconds in all. More were tried by hand."""

NOT_IN_THE_DOCUMENT = ("the prompt is empty", "the prompt contains", "key_reused", "bad_picture")
"""What is wrong with a request that the document cannot say."""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEGION_HOME", str(folder))
        service = make_service(folder, scripted_tools(), token=TOKEN, queue=1000, listeners=4)
        with listening(service) as address:
            yield schemathesis.openapi.from_url(f"{address}/v1/openapi.json", headers=HEADERS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_made_up_requests(api, mode) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) > 12
    for operation in operations:
        try:
            check(operation, mode)
        except Unsatisfiable:
            continue  # nothing about this operation can be wrong


def check(operation, mode) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case) -> None:
        answer = case.call(headers=HEADERS)
        unusable = answer.status_code == 422 and any(part in answer.text for part in NOT_IN_THE_DOCUMENT)
        case.validate_response(
            answer, excluded_checks=[positive_data_acceptance] if unusable else [], headers=HEADERS
        )

    one()
