import pytest

from genrec import shares


@pytest.mark.parametrize(
    "share, count, floor, ceil",
    [(0.29, 100, 29, 29), (0.07, 100, 7, 7), (0.1, 30, 3, 3), (0.35, 7, 2, 3), (1 / 3, 3, 0, 1), (1e-7, 10**7, 1, 1)],
)
def test_shares_are_the_decimal_numbers_that_users_write(share, count, floor, ceil):
    assert (shares.floor(share, count), shares.ceil(share, count)) == (floor, ceil)


@pytest.mark.parametrize("percent", range(101))
def test_hundredths_of_a_hundred_are_whole(percent):
    share = percent / 100
    assert shares.floor(share, 100) == shares.ceil(share, 100) == shares.nearest(share, 100) == percent


@pytest.mark.parametrize("share, count, nearest", [(0.285, 100, 28), (0.286, 100, 29), (0.5, 3, 2)])
def test_the_nearest_number_of_two_is_the_even_one(share, count, nearest):
    assert shares.nearest(share, count) == nearest
