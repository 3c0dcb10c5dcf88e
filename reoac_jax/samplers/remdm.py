"""Ancestral sampling that masks again."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.draw import DrawSettings, measured
from reoac_jax.config.parameters import parameter
from reoac_jax.samplers.interface import Move, ScheduledSampler, View


class _Rates(NamedTuple):
    """float32: chance that a revealed position is masked again, and a masked one revealed."""

    remask: jax.Array
    reveal: jax.Array


@dataclasses.dataclass(frozen=True)
class Remdm(ScheduledSampler):
    """From time t to s = t - 1/T a revealed position is masked again with chance sigma, and

        a masked one revealed with chance rho = (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t)

    where alpha_t = 1 - t; one coin a position and step. `schedule` says what sigma is, with the
    bound b = min(1, (1 - alpha_s) / alpha_t), 1 where alpha_t = 0:

    - cap: min(eta, b). rescale: eta b.
    - conf: b softmax(-psi)_i over the revealed, psi_i the probability, after the nucleus, with
      which i was written; masked positions are revealed at the plain rate (sigma = 0).
    - loop: t > t_on: sigma = 0, alpha_t = min((1 - t) alpha_on / (1 - t_on), alpha_on);
      t_off < t <= t_on: alpha stays, sigma = eta, rho = eta alpha_on / (1 - alpha_on);
      then: sigma = 0, 1 - alpha_t = t (1 - alpha_on) / t_off.

    Tokens are drawn at temperature 1 from the nucleus. In a block, t runs from 1 to 0 over its
    steps. A row, or block, is finished after its last step only. A step that changed nothing leaves
    its prediction, and a step that finds nothing masked needs none. The published eta (cap 0.008,
    rescale 0.015) are for 1 024 steps; few steps want others. Departures: given tokens are never
    masked again and take no part in the softmax; the token that crosses the nucleus is kept
    (`keep_crossing` false: dropped unless it is the first, as in the published code).
    """

    name: ClassVar[str] = "remdm"
    source: ClassVar[str] = "kuleshov-group/remdm, arXiv 2503.00307"
    keeps_prediction: ClassVar[bool] = True

    schedule: str = parameter("cap", "of sigma", choices=("cap", "rescale", "conf", "loop"))
    eta: float = parameter(0.02, "sigma's scale; conf reads none", low=0.0, high=1.0)
    t_on: float = parameter(0.55, "loop: masks again from here", low=0.0, high=1.0)
    t_off: float = parameter(0.05, "loop: down to here", low=0.0, high=1.0)
    alpha_on: float = parameter(0.9, "loop: share revealed in between", low=0.01, high=0.99)
    nucleus: float = parameter(0.9, "top-p of the draw", low=0.0, high=1.0)
    keep_crossing: bool = parameter(True, "the token that crosses the nucleus belongs to it")

    def draw(self, configured: DrawSettings) -> DrawSettings:
        return dataclasses.replace(
            configured,
            strategy="sample",
            temperature=1.0,
            top_p=self.nucleus,
            keep_crossing=self.keep_crossing,
            drawn=self._by_confidence,
        )

    def begin(self, gen_len: int) -> jax.Array:
        return jnp.zeros(gen_len)  # psi

    @property
    def _by_confidence(self) -> bool:
        return self.schedule == "conf"

    def step(self, view: View) -> Move:
        rates = self._rates(view)
        coin = jax.random.uniform(view.key, view.masked.shape)
        reveal = view.masked & (coin < rates.reveal)
        memory = view.memory
        if self._by_confidence:
            memory = jnp.where(reveal, measured(view.proposal.drawn), memory)
        done = view.step == view.steps - 1
        return Move(reveal, view.revealed & (coin < rates.remask), memory, done)

    def _rates(self, view: View) -> _Rates:
        time = view.steps_left / view.steps
        later = (view.steps_left - 1) / view.steps
        if self.schedule == "loop":
            return self._loop(time, later)
        now, next_ = 1.0 - time, 1.0 - later
        bound = jnp.where(now > 0, (1.0 - next_) / jnp.where(now > 0, now, 1.0), 1.0)
        bound = jnp.minimum(bound, 1.0)
        if self._by_confidence:
            scores = jnp.where(view.revealed, -view.memory, -jnp.inf)
            share = jnp.where(view.revealed.any(), jax.nn.softmax(scores), 0.0)
            return _Rates(bound * share, (next_ - now) / (1.0 - now))
        sigma = self.eta * bound if self.schedule == "rescale" else jnp.minimum(self.eta, bound)
        return _Rates(sigma, (next_ - (1.0 - sigma) * now) / (1.0 - now))

    def _loop(self, time: jax.Array, later: jax.Array) -> _Rates:
        on = self.alpha_on

        def before(t: jax.Array) -> jax.Array:
            return jnp.minimum((1.0 - t) * on / jnp.maximum(1.0 - self.t_on, 1e-6), on)

        def after(t: jax.Array) -> jax.Array:
            return 1.0 - t * (1.0 - on) / jnp.maximum(self.t_off, 1e-6)

        def plain(now: jax.Array, next_: jax.Array) -> jax.Array:
            return (next_ - now) / jnp.maximum(1.0 - now, 1e-6)

        first, last = time > self.t_on, time <= self.t_off
        looping = self.eta * on / (1.0 - on)
        reveal = jnp.where(
            first,
            plain(before(time), before(later)),
            jnp.where(last, plain(after(time), after(later)), looping),
        )
        return _Rates(jnp.where(first | last, 0.0, self.eta), reveal)
