"""A pass over the rest of a row, from the present block on, with kept keys and values before it."""

from typing import Any

import jax
import jax.numpy as jnp

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.backbone.interface import Denoiser, Prepared
from reoac_jax.backbone.kept import Kept, Window, put
from reoac_jax.backbone.prediction import Prediction, States, predict_states


def predict_window(
    model: Denoiser,
    variables: Any,
    prepared: Prepared,
    kept: Kept,
    rows: jax.Array,
    lengths: jax.Array,
    gen_len: int,
    start: jax.Array,
    width: int,
    uniforms: jax.Array,
    draw: DrawSettings,
    ends: jax.Array | None = None,
    before: States | None = None,
) -> Prediction:
    """As `predict`, of the generated positions `start` .. `start` + `width` of each row.

    What is said of the others holds no meaning: 0, and of the states those of `before`.

    Args:
      kept: keys and values of the whole rows; those before the window are read.
      start: int32 `[B]`, counted from the first generated position. width: at least as many
        positions as any row has from there on.
      The rest is as for `predict`; of `before`, every row has some.
    """
    batch = rows.shape[0]
    first = lengths - gen_len
    # The logits of a model that reads left stand one position earlier.
    begin = jnp.maximum(first + start - model.spec.reads_left, 0)
    window = Window(kept, begin)
    positions = window.positions(width + model.spec.reads_left)
    inside = jnp.minimum(positions, rows.shape[1] - 1)
    tokens = jnp.take_along_axis(rows, inside, axis=1)
    hidden = model.hidden(variables, tokens, lengths, prepared, window=window)
    states = States(
        model.generated(hidden, first + start - begin, width), prepared.head_rows(batch)
    )

    place = start[:, None] + jnp.arange(width)  # from G on: padding, which `put` leaves out
    own = jnp.minimum(place, gen_len - 1)

    def of_window(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x, own.reshape(*own.shape, *[1] * (x.ndim - 2)), axis=1)

    standing = None
    if draw.standing:
        standing = jnp.take_along_axis(rows, first[:, None] + own, axis=1)
    compared = None
    if draw.divergence:
        assert before is not None, "a window follows a pass over the whole row"
        compared = before._replace(hidden=of_window(before.hidden)), jnp.ones(batch, bool)
    found = predict_states(
        model, variables, states, of_window(uniforms), draw, ends, standing, compared
    )
    nothing = jax.tree.map(lambda x: jnp.zeros((batch, gen_len), x.dtype), found)
    predicted = jax.tree.map(lambda whole, part: put(whole, part, place), nothing, found)
    after = None
    if before is not None:
        after = before._replace(hidden=put(before.hidden, states.hidden, place))
    return Prediction(predicted, jnp.zeros((batch, hidden.shape[-1]), hidden.dtype), after)
