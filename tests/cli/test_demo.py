"""`unblur demo`: a table of models and readable recommendations."""

from tests.cli.conftest import Unblur


def test_demo(unblur: Unblur) -> None:
    ran = unblur("demo")
    assert ran.code == 0, ran.err
    for recipe in ("popularity/demo", "ease/demo", "gf-cf/demo", "bspm/demo"):
        assert recipe in ran.out
    for column in ("recall@20", "ndcg@20", "coverage@20", "fit s"):
        assert column in ran.out
    assert "bspm/demo recommends" in ran.out
    assert "%" in ran.out
    assert "unblur fit DATA" in ran.out
