"""Answers on disk: kept, shared by processes, found damaged, counted when a process dies."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

import thalweg as tw
from thalweg.errors import CheckpointCorruptError, CheckpointVersionError, LanguageModelError
from thalweg.lm import Answer, AnswerCache, LanguageModel, Usage
from thalweg.lm.cache import FILE
from thalweg.lm.requests import request_key
from thalweg.lm.stub import Reply, Stub

HELLO = [{"role": "user", "content": "good morning"}]
KEY = "ab" * 32
ANSWER = Answer('“Four”, said "he".\n', "stop", Usage(12, 2))


def keep(cache, key=KEY, answer=ANSWER):
    flight = tw.wait(cache.begin(key, Usage(100, 10)))
    return tw.wait(cache.keep(flight, key, answer))


def test_what_is_kept_is_there_again(tmp_path):
    with AnswerCache(tmp_path / "a" / "b") as cache:
        assert cache.get(KEY) is None
        assert keep(cache) == ANSWER
    with AnswerCache(tmp_path / "a" / "b") as cache:
        again = cache.get(KEY)
        assert again == ANSWER.again()
        assert again.cached
        assert cache.paid() == (1, Usage(12, 2))
        assert cache.lost() == (0, Usage())


def test_a_closed_cache_leaves_one_file_that_a_read_only_folder_could_hold(tmp_path):
    with AnswerCache(tmp_path) as cache:
        keep(cache)
        assert len(list(tmp_path.iterdir())) > 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    with sqlite3.connect(f"file:{tmp_path / FILE}?mode=ro&immutable=1", uri=True) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_a_closed_cache_says_so(tmp_path):
    cache = AnswerCache(tmp_path)
    cache.close()
    cache.close()
    with pytest.raises(LanguageModelError, match="was closed"):
        cache.get(KEY)
    with pytest.raises(LanguageModelError, match="was closed"):
        tw.wait(cache.begin(KEY, Usage()))


def test_the_first_answer_stays(tmp_path):
    other = Answer("Five.", "stop", Usage(12, 2))
    with AnswerCache(tmp_path) as one, AnswerCache(tmp_path) as two:
        assert keep(one) == ANSWER
        assert keep(two, answer=other).text == ANSWER.text
        assert two.paid() == (1, Usage(12, 2))


def test_an_answer_may_stand_for_that_of_a_refused_request(tmp_path):
    refused = "cd" * 32
    with AnswerCache(tmp_path) as cache:
        flight = tw.wait(cache.begin(KEY, Usage(100, 10)))
        tw.wait(cache.keep(flight, KEY, ANSWER, stands_for=refused))
        assert cache.get(refused) == cache.get(KEY) == ANSWER.again()
        assert cache.paid() == (1, Usage(12, 2)), "one answer"
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE stand_ins SET other = ?", (KEY[:-1] + "c",))
    connection.close()
    with AnswerCache(tmp_path) as cache:
        with pytest.raises(CheckpointCorruptError, match="its digest differs") as caught:
            cache.get(refused)
        cache.drop(caught.value.details["entry"])
        assert cache.get(refused) is None
        assert cache.get(KEY) == ANSWER.again()


def test_a_file_without_stand_ins_gets_them(tmp_path):
    with AnswerCache(tmp_path) as cache:
        keep(cache)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("DROP TABLE stand_ins")
    connection.close()
    with AnswerCache(tmp_path) as cache:
        assert cache.get(KEY) == ANSWER.again()
        assert cache.get("cd" * 32) is None


def test_flights_end_in_one_of_three_ways(tmp_path):
    with AnswerCache(tmp_path) as cache:
        for ending in (cache.end, cache.lose):
            tw.wait(ending(tw.wait(cache.begin(KEY, Usage(100, 10)))))
        assert cache.lost() == (1, Usage(100, 10))


@pytest.mark.parametrize("what", ["answer", "digest", "key"])
def test_a_damaged_entry_is_found_and_said(tmp_path, what):
    with AnswerCache(tmp_path) as cache:
        keep(cache)
    other = "cd" * 32
    with sqlite3.connect(tmp_path / FILE) as connection:
        change = {
            "answer": "replace(answer, 'Four', 'Five')",
            "digest": "substr(digest, 2) || '0'",
            "key": f"'{other}'",
        }
        assert connection.execute(f"UPDATE answers SET {what} = {change[what]}").rowcount == 1
    connection.close()
    key = other if what == "key" else KEY
    with AnswerCache(tmp_path) as cache:
        with pytest.raises(CheckpointCorruptError, match="damaged answer: entry") as caught:
            cache.get(key)
        assert caught.value.details == {"file": str(tmp_path / FILE), "entry": key}
        cache.drop(key)
        assert cache.get(key) is None


def read_all(folder):
    with AnswerCache(folder) as cache:
        for number in range(40):
            assert cache.get(f"{number:064x}") == ANSWER.again()


def test_every_truncation_of_the_file_is_found(tmp_path):
    with AnswerCache(tmp_path / "whole") as cache:
        for number in range(40):
            keep(cache, f"{number:064x}")
    read_all(tmp_path / "whole")
    content = (tmp_path / "whole" / FILE).read_bytes()
    for size in range(1, len(content), 997):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / FILE).write_bytes(content[:size])
        with pytest.raises(CheckpointCorruptError):
            read_all(folder)


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / FILE).write_bytes(b"something else, and long enough to be taken for a header of SQLite" * 20)
    with pytest.raises(CheckpointCorruptError, match="damaged answers"):
        AnswerCache(tmp_path)
    (tmp_path / FILE).unlink()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    with pytest.raises(CheckpointCorruptError, match="no file of answers"):
        AnswerCache(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_newer_files_are_refused(tmp_path):
    AnswerCache(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(CheckpointVersionError, match="update Thalweg"):
        AnswerCache(tmp_path)


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LanguageModelError, match="cannot be kept in"):
        AnswerCache(tmp_path / "file")


def test_one_that_nobody_closed_is_closed_when_it_goes(tmp_path):
    cache = AnswerCache(tmp_path)
    keep(cache)
    del cache
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


# -- with a model --------------------------------------------------------------------------


def test_an_answer_is_paid_for_once_whatever_the_port(tmp_path):
    texts = []
    sent = 0
    for _ in range(2):
        with Stub() as stub:
            model = LanguageModel(stub.url, "stub", cache=tmp_path)
            texts.append(tw.wait(model.complete(HELLO)).text)
            sent += len(stub.requests)
            model.close()
    assert texts == ["morning good"] * 2
    assert sent == 1


@pytest.mark.parametrize("change", [{"model": "other"}, {"seed": 1}, {"max_tokens": 9}, {"temperature": 1.0}])
def test_another_request_is_another_entry(tmp_path, change):
    with Stub() as stub:
        for options in ({}, change):
            with_cache = LanguageModel(stub.url, **{"model": "stub", "cache": tmp_path, **options})
            tw.wait(with_cache.complete(HELLO))
            with_cache.close()
    assert len(stub.requests) == 2


def test_a_damaged_answer_is_not_paid_for_again_without_a_word(tmp_path):
    with Stub() as stub:
        model = LanguageModel(stub.url, "stub", cache=tmp_path)
        tw.wait(model.complete(HELLO))
        model.close()
        with sqlite3.connect(tmp_path / FILE) as connection:
            connection.execute("UPDATE answers SET answer = replace(answer, 'good', 'bad')")
        connection.close()
        with pytest.raises(CheckpointCorruptError):
            tw.wait(model.complete(HELLO))
        model.close()
    assert len(stub.requests) == 1


def test_what_failed_is_not_kept(tmp_path):
    with Stub(script=[Reply(500)]) as stub:
        model = LanguageModel(stub.url, "stub", cache=tmp_path, retries=0)
        with pytest.raises(LanguageModelError):
            tw.wait(model.complete(HELLO))
        assert tw.wait(model.complete(HELLO)).text == "morning good"
        assert model.cache.lost() == (0, Usage())
        model.close()


CHILD = """
    import asyncio, sys
    from thalweg.lm import LanguageModel

    async def main(url, folder, count, concurrency):
        model = LanguageModel(url, "stub", cache=folder, concurrency=concurrency, retries=0)
        done = 0
        async def one(k):
            nonlocal done
            answer = await model.complete([{"role": "user", "content": f"number {k}"}])
            done += 1
            print(done, flush=True)
            return answer.text
        texts = await asyncio.gather(*(one(k) for k in range(count)))
        assert texts == [f"{k} number" for k in range(count)], texts
        model.close()

    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


def child(url, folder, count, concurrency):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), url, str(folder), str(count), str(concurrency)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def test_a_killed_process_pays_again_only_for_what_was_under_way(tmp_path):
    """200 requests, killed after 100; the resumed process repeats none that was answered."""
    with Stub(delay=0.005) as stub:
        first = child(stub.url, tmp_path, 200, 16)
        for line in first.stdout:
            if int(line) >= 100:
                first.send_signal(signal.SIGKILL)
                break
        first.stdout.close()
        assert first.wait() == -signal.SIGKILL
        before = len(stub.requests)
        with AnswerCache(tmp_path) as cache:
            kept, _ = cache.paid()
            answered = {key for body in stub.requests[:before] if cache.get(key := request_key(body, 0)) is not None}
            lost, usage = cache.lost()
        assert len(answered) == kept
        assert kept >= 100
        assert lost <= 16
        assert usage.completion == 256 * lost
        second = child(stub.url, tmp_path, 200, 16)
        _, _ = second.communicate()
        assert second.returncode == 0
    assert not answered & {request_key(body, 0) for body in stub.requests[before:]}
    # What was asked twice was under way when the process died, and is counted.
    asked = [request_key(body, 0) for body in stub.requests]
    assert len(set(asked)) == 200
    assert len(asked) - len(set(asked)) <= lost <= 16


def test_two_processes_share_a_folder(tmp_path):
    with Stub() as stub:
        children = [child(stub.url, tmp_path, 60, 4) for _ in range(2)]
        for process in children:
            process.communicate()
            assert process.returncode == 0
    with AnswerCache(tmp_path) as cache:
        assert cache.paid()[0] == 60
        assert cache.lost() == (0, Usage())


def test_requests_of_a_living_process_are_not_lost(tmp_path):
    with AnswerCache(tmp_path) as mine:
        tw.wait(mine.begin(KEY, Usage(100, 10)))
        with AnswerCache(tmp_path) as other:
            assert other.lost() == (0, Usage())
    with AnswerCache(tmp_path) as other:  # closed without an end: nobody will tell
        assert other.lost() == (1, Usage(100, 10))


def test_many_writes_share_a_flush(tmp_path, monkeypatch):
    with AnswerCache(tmp_path) as cache:
        commits = []
        import thalweg.lm.cache as module

        real = module._transact
        monkeypatch.setattr(module, "_transact", lambda c, jobs: (commits.append(len(jobs)), real(c, jobs)))

        async def many():
            cache._lock.acquire()  # a flush is under way
            writes = [asyncio.ensure_future(cache.begin(f"{k:064x}", Usage(1, 1))) for k in range(30)]
            while len(cache._jobs) < 30:
                await asyncio.sleep(0.001)
            cache._lock.release()
            return await asyncio.gather(*writes)

        assert len(set(tw.wait(many()))) == 30
    assert sum(commits) == 30
    assert len(commits) == 1


def test_a_write_that_fails_is_said_to_all_of_its_flush_and_none_is_kept(tmp_path):
    with AnswerCache(tmp_path) as cache:

        async def both():
            cache._lock.acquire()
            good = asyncio.ensure_future(cache.begin(KEY, Usage(1, 1)))
            bad = asyncio.ensure_future(cache._write(lambda c: c.execute("INSERT INTO nothing VALUES (1)")))
            while len(cache._jobs) < 2:
                await asyncio.sleep(0.001)
            cache._lock.release()
            return await asyncio.gather(good, bad, return_exceptions=True)

        results = tw.wait(both())
        assert all(isinstance(result, LanguageModelError) for result in results)
        keep(cache)
        assert cache.get(KEY) == ANSWER.again()
