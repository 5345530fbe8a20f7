"""Where no list of similar videos is published, the item index answers, or the gateway says why."""

import pytest
from qdrant_client import models

from contract.points import collection_name, point_id
from contract.process.settings import QdrantSettings, load
from index_sync.collections.index import connected
from nextwatch.embedded.process.ports import free_ports
from tests.support.web import running_gateway

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

VECTORS = {"near": [1.0, 0.0], "nearer": [0.8, 0.6], "far": [-1.0, 0.0]}


@pytest.fixture(scope="module")
def index(stack):
    """Three videos in the collection that the alias names."""
    settings = load(QdrantSettings, stack.env)
    client, name = connected(settings), collection_name(settings.prefix(stack.kafka), 7)
    client.create_collection(
        name, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT)
    )
    points = [
        models.PointStruct(id=point_id(video), vector=vector, payload={"video_id": video})
        for video, vector in VECTORS.items()
    ]
    client.upsert(name, points, wait=True)
    alias = models.CreateAlias(collection_name=name, alias_name=settings.prefix(stack.kafka))
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    yield settings
    client.delete_collection(name)
    client.close()


@pytest.mark.usefixtures("index")
def test_the_nearest_videos_come_from_the_item_index(gateway):
    answer = gateway.client.get("/v1/videos/near/similar?number=1")

    assert answer.json()["source"] == "item-index"
    assert [video["video_id"] for video in answer.json()["videos"]] == ["nearer"]


@pytest.mark.usefixtures("index")
def test_a_video_that_the_index_does_not_have_is_not_found(gateway):
    assert gateway.client.get("/v1/videos/unheard/similar").status_code == 404


def test_an_index_that_is_away_is_503_with_a_time_to_try_again(stack):
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with running_gateway(stack, name="lonely", env={"NEXTWATCH_QDRANT_URL": url}) as gateway:
        answer = gateway.client.get("/v1/videos/near/similar")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
