"""The cache of compiled programs: where it lies, who may read it, and that it is used."""

import os
import pwd
import stat

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from reoac_jax.devices.compilation import COMPILE_EVENT, _announce, set_up_compilation
from reoac_jax.system.errors import InputError

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A user's empty cache folder; JAX's settings are put back afterwards."""
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "reoac_jax" / "compiled"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compile_something(number):
    return jax.jit(lambda x: jnp.sin(x) * number)(jnp.ones(7)).block_until_ready()


def test_auto_is_the_users_cache_folder_and_nobody_elses(own_cache):
    old = os.umask(0)  # the folder is private whatever the user's mask
    try:
        set_up_compilation("auto")
    finally:
        os.umask(old)
    assert stat.S_IMODE(own_cache.stat().st_mode) == 0o700
    compile_something(0.123)
    assert any("cache" in path.name for path in own_cache.iterdir())


def test_a_program_is_loaded_by_the_next_process(own_cache):
    set_up_compilation("auto")
    hits = []

    def note(event, **_):
        hits.extend([event] * event.endswith("cache_hits"))

    jax.monitoring.register_event_listener(note)
    try:
        compile_something(0.456)
        assert not hits
        jax.clear_caches()  # as a new process has none
        compile_something(0.456)
        assert hits
    finally:
        jax.monitoring.unregister_event_listener(note)


def test_off_and_a_folder_of_ones_own(own_cache, tmp_path):
    set_up_compilation("off")
    compile_something(0.789)
    assert not own_cache.exists()
    set_up_compilation(str(tmp_path / "mine"))
    compile_something(0.987)
    assert list((tmp_path / "mine").iterdir())


def test_what_the_user_set_in_jax_stands(own_cache, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "users"))
    set_up_compilation("auto")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "users")
    assert not own_cache.exists()


def test_a_place_that_cannot_be_a_folder_is_one_line(own_cache, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="compilation.cache_dir") as caught:
            set_up_compilation(str(place))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null", "relative", None])
def test_without_a_home_there_is_a_warning_and_no_cache(home, own_cache, monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME")
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])  # an id of nobody
    else:
        monkeypatch.setenv("HOME", home)
    set_up_compilation("auto")
    warning = capsys.readouterr().err
    assert (
        warning.startswith("warning: compiled programs are not kept") and "\n" not in warning[:-1]
    )
    assert "compilation.cache_dir" in warning
    assert not jax.config.jax_enable_compilation_cache
    compile_something(0.321)


def test_a_folder_set_in_jax_that_cannot_be_had_is_a_warning(own_cache, capsys):
    jax.config.update("jax_compilation_cache_dir", "/proc/none/cache")
    set_up_compilation("auto")
    assert capsys.readouterr().err.startswith("warning: compiled programs are not kept")
    assert not jax.config.jax_enable_compilation_cache


def test_a_folder_of_somebody_else(own_cache, tmp_path, monkeypatch, capsys):
    """Containers run under foreign user ids; the tests may run as root, who may write anywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    set_up_compilation("auto")
    assert f"{own_cache} cannot be written" in capsys.readouterr().err
    assert not jax.config.jax_enable_compilation_cache
    with pytest.raises(InputError, match="compilation.cache_dir: .*mine cannot be written"):
        set_up_compilation(str(tmp_path / "mine"))


def test_long_compilations_are_announced_with_their_duration(capsys):
    _announce(COMPILE_EVENT, 0.2, fun_name="short")
    _announce("another event", 5.0, fun_name="other")
    _announce(COMPILE_EVENT, 5.04, fun_name="jit(rollout)")
    assert capsys.readouterr().err == "compiled rollout in 5.0 s\n"
