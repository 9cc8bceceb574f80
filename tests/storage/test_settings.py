"""The environment overrides photojobs.toml, which overrides the defaults; errors name the source of the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import Settings
from storage.settings import InvalidSettings, settings_file


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_anything_the_defaults_hold() -> None:
    settings = Settings.load()
    assert settings.database_url.get_secret_value() == "sqlite:///photojobs.db"
    assert (settings.library_root, settings.definitions) == (Path("library"), None)
    assert (settings.trash_ttl_seconds, settings.unaccepted_files) == (86_400, "keep")
    assert settings.stale_seconds >= 3 * settings.heartbeat_seconds
    assert settings_file() is None


def test_the_environment_comes_before_the_file_and_the_file_before_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photojobs.toml").write_text(
        'library_root = "/from/file"\nheartbeat_seconds = 2\njpg_extensions = ["jpg"]\n', encoding="utf-8"
    )
    assert Settings.load().library_root == Path("/from/file")
    monkeypatch.setenv("PHOTOJOBS_LIBRARY_ROOT", "/from/environment")
    settings = Settings.load()
    assert settings.library_root == Path("/from/environment")
    assert settings.heartbeat_seconds == 2
    assert settings.jpg_extensions == ("jpg",)
    assert Settings.load(library_root="/from/argument").library_root == Path("/from/argument")


def test_a_mapping_replaces_the_whole_mapping_of_a_later_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photojobs.toml").write_text('[schedules]\na = {cron = "0 3 * * *"}\nb = "off"\n', encoding="utf-8")
    monkeypatch.setenv("PHOTOJOBS_SCHEDULES", '{"a": {"interval_seconds": 3600}}')
    assert Settings.load().schedules == {"a": {"interval_seconds": 3600}}
    monkeypatch.setenv("PHOTOJOBS_SCHEDULES", "{}")
    assert Settings.load().schedules == {}
    monkeypatch.setenv("PHOTOJOBS_SCHEDULES", '{"b": "off"}')
    assert Settings.load(schedules={}).schedules == {}


def test_a_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "elsewhere.toml"
    named.write_text("concurrency = 7\n", encoding="utf-8")
    (tmp_path / "photojobs.toml").write_text("concurrency = 9\n", encoding="utf-8")
    monkeypatch.setenv("PHOTOJOBS_CONFIG", str(named))
    assert Settings.load().concurrency == 7


def test_a_named_file_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOJOBS_CONFIG", "nowhere.toml")
    with pytest.raises(InvalidSettings, match=r"PHOTOJOBS_CONFIG: nowhere\.toml is not a file"):
        Settings.load()


def test_a_file_that_is_not_toml_is_told(tmp_path: Path) -> None:
    for content, problem in (
        (b"concurrency = ", "not well-formed TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"schedules.a = " + b"[" * 3000, r"nested too deeply \(32 levels are allowed\)"),
        (b"schedules." + b"a." * 3000 + b"a = 1", r"nested too deeply \(32 levels are allowed\)"),
        (b"schedules.a = " + b"9" * 5000, "more than 4300 digits"),
        (b"#" * 300_000, "larger than"),
    ):
        (tmp_path / "photojobs.toml").write_bytes(content)
        with pytest.raises(InvalidSettings, match=rf"photojobs\.toml: .*{problem}"):
            Settings.load()


@pytest.mark.parametrize("value", ['{"a": ', "[" * 3000, '{"a": ' + "9" * 5000 + "}", "a,b"])
def test_a_variable_that_is_not_json_within_bounds_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PHOTOJOBS_SCHEDULES", value)
    with pytest.raises(InvalidSettings, match="PHOTOJOBS_SCHEDULES: is not well-formed JSON"):
        Settings.load()


def test_every_unknown_name_is_told_with_its_place_and_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'libary_root = "x"\nnonsense = 1\nconcurrency = 0\n[schedules]\npoll_seconds = "1"\n'
    (tmp_path / "photojobs.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PHOTOJOBS_HEARTBEAT_SECOND", "5")
    with pytest.raises(InvalidSettings) as refusal:
        Settings.load()
    lines = str(refusal.value).splitlines()
    assert len(lines) == 5
    assert (
        "photojobs.toml: schedules: poll_seconds: is a setting, not a definition. Write it above the line [schedules]."
        in lines
    )
    assert any(line.startswith("concurrency (from photojobs.toml)") for line in lines)
    assert 'photojobs.toml: libary_root: is not a setting. Did you mean "library_root"?' in lines
    assert any(line.startswith("photojobs.toml: nonsense: is not a setting") for line in lines)
    assert 'PHOTOJOBS_HEARTBEAT_SECOND: is not a setting. Did you mean "heartbeat_seconds"?' in lines


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", "0"),
        ("concurrency", "many"),
        ("heartbeat_seconds", "-1"),
        ("heartbeat_seconds", "nan"),
        ("unaccepted_files", "delete"),
        ("preview_quality", "101"),
        ("trash_ttl_seconds", "-1"),
        ("max_attempts", "1.5"),
        ("database_url", ""),
        ("database_url", "sqlite://"),
        ("database_url", "sqlite+pysqlite:///:memory:"),
        ("database_url", ":memory:"),
        ("trash_ttl_seconds", "9" * 30),
        ("image_seconds", "inf"),
        ("library_root", ""),
        ("definitions", " "),
        ("jpg_extensions", '["a b"]'),
        ("raw_extensions", '[""]'),
        ("other_extensions", '["xmp"]'),
    ],
)
def test_an_impossible_value_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    variable = f"PHOTOJOBS_{name.upper()}"
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings, match=f"{name} .*from the environment variable {variable}"):
        Settings.load()


def test_an_impossible_value_is_told_with_its_file_or_argument(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"concurrency .from the argument"):
        Settings.load(concurrency=0)
    (tmp_path / "photojobs.toml").write_text("concurrency = 0\npreview_pixels = 'big'\n", encoding="utf-8")
    with pytest.raises(InvalidSettings) as refusal:
        Settings.load()
    assert "concurrency (from photojobs.toml): 0 is not allowed: " in str(refusal.value)
    assert 'preview_pixels (from photojobs.toml): "big" is not allowed: ' in str(refusal.value)


def test_an_extension_of_two_kinds_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="'jpg' cannot be both jpg and other; remove it"):
        Settings.load(other_extensions=["JPG"])


def test_a_path_may_begin_with_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photojobs.toml").write_text('library_root = "~/photos"\ndefinitions = "~nobody-here/x"\n')
    settings = Settings.load()
    assert (settings.library_root, settings.definitions) == (tmp_path / "photos", Path("~nobody-here/x"))


def test_a_job_that_is_alive_can_never_count_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOJOBS_HEARTBEAT_SECONDS", "30")
    with pytest.raises(InvalidSettings, match="stale_seconds: 60 is less than three heartbeats of 30"):
        Settings.load()


def test_the_database_url_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:hunter2@host/photos"
    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", url)
    settings = Settings.load()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{settings!r:.1000}"):
        assert "hunter2" not in shown
    assert settings.database_url.get_secret_value() == url
    monkeypatch.setenv("PHOTOJOBS_CONCURRENCY", "0")
    with pytest.raises(InvalidSettings) as refusal:
        Settings.load()
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    (tmp_path / "photojobs.toml").write_text('database_url = ["hunter2"]\n', encoding="utf-8")
    monkeypatch.delenv("PHOTOJOBS_DATABASE_URL")
    monkeypatch.delenv("PHOTOJOBS_CONCURRENCY")
    with pytest.raises(InvalidSettings) as refusal:
        Settings.load()
    assert "hunter2" not in str(refusal.value)


def test_settings_cannot_be_changed_and_every_one_is_described() -> None:
    settings = Settings.load()
    with pytest.raises(ValueError, match="frozen"):
        settings.concurrency = 3  # type: ignore[misc]
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
