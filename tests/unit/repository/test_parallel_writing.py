"""Several threads write one relation file; what is dear happens side by side."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stillframe.repository.crypto import ContentBytes
from stillframe.repository.files import FileContent, PageCount
from stillframe.repository.format import BLOCK, FRAME_BLOCKS, ContentKind
from stillframe.repository.relations import LeafLayout, RelationWriter
from support.repository_nodes import Nodes

pytestmark = pytest.mark.unit


class _MeetingNodes(Nodes):
    """Storing pages takes until a second thread stores some too."""

    def __init__(self, parties: int) -> None:
        super().__init__()
        self._meeting = threading.Barrier(parties, timeout=10)

    def save(self, kind: ContentKind, plain: ContentBytes) -> bytes:
        if kind is ContentKind.PAGES:
            self._meeting.wait()
        return super().save(kind, plain)


def test_two_threads_store_pages_of_one_relation_at_the_same_time() -> None:
    nodes = _MeetingNodes(2)
    done: list[FileContent] = []

    def note(content: FileContent, pages: PageCount) -> None:
        assert pages == PageCount(given=2 * FRAME_BLOCKS, zero=0)
        done.append(content)

    layout = LeafLayout(nodes, None, None)
    writer = RelationWriter(nodes, layout, blocks=2 * FRAME_BLOCKS, done=note)
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(writer.write_run, number * FRAME_BLOCKS, bytes([number + 1]) * (FRAME_BLOCKS * BLOCK))
            for number in range(2)
        ]
        for run in runs:
            run.result()
    writer.close()
    (content,) = done
    assert content.size == 2 * FRAME_BLOCKS * BLOCK
