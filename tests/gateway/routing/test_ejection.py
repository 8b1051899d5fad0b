from controlplane.gateway.routing.standing import Standing


def test_a_replica_that_fails_again_rests_twice_as_long_and_never_longer_than_half_a_minute():
    standing = Standing()
    rests = []

    for _ in range(8):
        standing.failed(100.0, 2.0)
        rests.append(standing.rests_until - 100.0)

    assert rests == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


def test_an_answer_ends_the_rest_and_its_history():
    standing = Standing()
    standing.failed(100.0, 2.0)
    standing.failed(100.0, 2.0)

    standing.succeeded()
    assert standing.rests_until == 0.0
    standing.failed(100.0, 2.0)
    assert standing.rests_until == 102.0


def test_one_error_alone_may_be_the_requests_own_fault():
    standing = Standing()

    standing.erred(100.0, 2.0)
    standing.erred(100.0, 2.0)
    assert standing.rests_until == 0.0
    standing.erred(100.0, 2.0)
    assert standing.rests_until == 102.0


def test_work_of_long_ago_counts_nothing():
    standing = Standing()
    standing.work(1000, now=100.0)

    assert standing.worked(100.0) == 1000
    assert 0 < standing.worked(110.0) < 1000
    assert standing.worked(200.0) == 0
