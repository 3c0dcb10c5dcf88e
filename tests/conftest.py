"""What tests start from: four CPU devices, quick compilation, a cache of it, the shared inputs.

`--fast` leaves out what is marked `slow`, `process` or `browser`; what is marked `parity` stays.

Most of the suite's time is compilation, and most of that is optimisation, which tests of what a
program does can do without. What compares with published outputs, and what claims that numbers are
equal in every bit, is marked `parity` or `as_used` and compiled as users have it.
"""

import collections
import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before jax is imported
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # of processes that tests start, too
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # nobody reads where an operation was written
os.environ["TERM"] = "xterm"  # what pseudo-terminals take themselves for

import jax  # noqa: E402
import pytest  # noqa: E402
from jax._src import compiler  # noqa: E402  # there is no public way to set an option for all

from reoac_jax.system import progress

pytest_plugins = ("support.small_run",)  # fixtures of several files
ROOT = Path(__file__).resolve().parents[1]

jax.config.update("jax_num_cpu_devices", 4)
# A second run of the tests finds its programs compiled, the small ones too.
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax_tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.03)
# Without XLA's fusion emitters a program compiles in half of the time; its kernels are slower.
# Later compilers do not know the option. In one piece it costs less than in parts for 32 threads.
_HAS_EMITTERS = jax.__version_info__ < (0, 11)
_QUICK = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
_options_as_used = compiler.get_compile_options


def _quick_options(*arguments, **named):
    """XLA's options for a program, where it is not compiled as users have it."""
    options = _options_as_used(*arguments, **named)
    if _HAS_EMITTERS and jax.config.read("jax_disable_most_optimizations"):
        options.env_option_overrides = [*options.env_option_overrides, *_QUICK.items()]
    return options


compiler.get_compile_options = _quick_options
jax.devices()  # has this process read its own environment; this is of processes that tests start
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
if _HAS_EMITTERS:
    _own_flags = os.environ.get("XLA_FLAGS", "")
    _flags = [f"--{name}={str(value).lower()}" for name, value in _QUICK.items()]
    os.environ["XLA_FLAGS"] = " ".join([_own_flags, *_flags]).strip()
# What is imported stays, and tracing makes many objects at once: the collector need not look
# through all of them every time.
gc.freeze()
gc.set_threshold(20_000, 10, 10)
# A machine that is busy must not add lines to what tests compare.
progress.QUIET_SECONDS = 1e6


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="no slow tests, no processes, no browser")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("fast"):
        left_out = [item for item in items if not _is_fast(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = filter(_is_fast, items)
    if hasattr(config, "workerinput"):  # one of several processes: no long file may begin last
        work: collections.Counter[Path] = collections.Counter()
        for item in items:
            if item.get_closest_marker("slow") is not None:
                work[item.path] += 1 if item.get_closest_marker("process") is None else _PROCESSES
        quick = {item.path: _is_quick(item.getparent(pytest.Module)) for item in items}
        # Those that are compiled alike come together.
        items.sort(key=lambda item: (quick[item.path], -work[item.path]))


_PROCESSES = 20  # slow tests that take as long as one that starts processes; about


def _is_quick(module: pytest.Collector) -> bool:
    """Whether a file's programs are compiled without optimisation."""
    return {mark.name for mark in module.iter_markers()}.isdisjoint({"as_used", "parity"})


@pytest.fixture(scope="module", autouse=True)
def _compilation(request: pytest.FixtureRequest) -> None:
    """Optimised where a file is marked so; programs that were compiled otherwise are let go of."""
    quick = _is_quick(request.node)
    if jax.config.read("jax_disable_most_optimizations") != quick:
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", quick)


@pytest.fixture
def compiled_as_used() -> Iterator[None]:
    """What the test itself compiles is optimised as users have it."""
    quick = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", quick)


@pytest.fixture(scope="module", autouse=True)
def _few_mappings():
    """Lets go of compiled programs before the kernel refuses the process more memory mappings.

    Each program that XLA compiles for the CPU holds several; at vm.max_map_count (65 530 as Linux
    comes) the next one is a segmentation fault.
    """
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


def _is_fast(item: pytest.Item) -> bool:
    marks = {mark.name for mark in item.iter_markers()}
    return "parity" in marks or marks.isdisjoint({"slow", "process", "browser"})


def _shared(name: str) -> Path:
    folder = ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/{name}, which is not part of the project")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of full-size inputs (GSM8K, MATH, GPT-2's tokenizer); skips where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """The folder of reference numbers; skips where it is absent."""
    return _shared("golden")


@pytest.fixture(scope="session")
def configs() -> Path:
    """The project's `configs/`."""
    return ROOT / "configs"
