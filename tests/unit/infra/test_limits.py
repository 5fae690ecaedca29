"""The sizes that `make check` holds."""

from infra.limits import FILE_LINES, FUNCTION_LINES, too_long_in


def function_of(lines: int) -> str:
    return "def grows():\n" + "    pass\n" * (lines - 1)


def test_a_function_at_the_limit_passes_and_one_line_more_does_not() -> None:
    assert list(too_long_in(function_of(FUNCTION_LINES), "a.py")) == []
    assert list(too_long_in(function_of(FUNCTION_LINES + 1), "a.py")) == ["a.py:1: grows has 71 lines, at most 70"]


def test_a_method_and_a_coroutine_count_too() -> None:
    text = "class A:\n    async def grows(self):\n" + "        pass\n" * FUNCTION_LINES
    assert len(list(too_long_in(text, "a.py"))) == 1


def test_a_file_at_the_limit_passes_and_one_line_more_does_not() -> None:
    assert list(too_long_in("x = 1\n" * FILE_LINES, "a.py")) == []
    assert len(list(too_long_in("x = 1\n" * (FILE_LINES + 1), "a.py"))) == 1
