"""The rollout once more as plain Python, one row and one step at a time, straight from DESIGN.md.

It shares with the package the forward pass, the features and the heads (tested elsewhere) and the
derivation of random keys; operators, update rules, repair, fallback and branching are its own.
"""

import copy
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from reoac_jax.policy.features import alignment_features, extra_features, prompt_context
from reoac_jax.policy.observation import FilledRows, Observation

_prompt_context = jax.jit(prompt_context)
_features = jax.jit(alignment_features, static_argnums=6)
_extra = jax.jit(extra_features, static_argnums=4)


@dataclasses.dataclass
class Row:
    tokens: list[int]
    confidence: list[float]
    entropy: list[float]


class PlainRollout:
    def __init__(self, denoise, heads, prompts, vocabulary, settings):
        """`denoise` and `heads` take batches of one row; `prompts` holds one row."""
        self.denoise, self.heads, self.s = denoise, heads, settings
        self.key, self.prompt = prompts.keys[0], (prompts.tokens[0], prompts.lengths[0])
        self.context = _prompt_context(
            prompts.tokens[0], prompts.lengths[0], prompts.key_mask[0], vocabulary
        )
        self.vocabulary = vocabulary
        given = [settings.mask_id] * settings.gen_len
        if prompts.given is not None:
            given = prompts.given[0].tolist()
        self.given = given
        self.fixed = {i for i, token in enumerate(given) if token != settings.mask_id}
        self.has_digit = np.asarray(vocabulary.has_digit)
        self.is_operator = np.asarray(vocabulary.is_operator)
        self.is_eos = np.asarray(vocabulary.is_eos)

    def forward(self, row, step):
        out = self.denoise(jnp.array([row.tokens], jnp.int32), jnp.array([step], jnp.int32))
        return jax.tree.map(lambda x: np.asarray(x[0]), out)

    def observe(self, row, previous, prediction, step):
        s = self.s
        entropy = list(prediction.tokens.entropy)
        if s.update_rule == "denoise":
            entropy = [
                e if t == s.mask_id else w
                for e, t, w in zip(entropy, row.tokens, row.entropy, strict=True)
            ]
        tokens = jnp.array(row.tokens, jnp.int32)
        seen = Observation(
            _features(
                self.context, tokens, jnp.array(previous, jnp.int32), jnp.array(step > 0),
                jnp.array(entropy, jnp.float32), self.vocabulary, s.relation_temperature,
            )
        )  # fmt: skip
        if s.use_hidden:
            seen = seen._replace(pooled=prediction.pooled)
        if s.extra_features:
            progress = _extra(
                jnp.float32(step / s.max_steps), tokens == s.mask_id,
                prediction.tokens.confidence, prediction.tokens.entropy,
                self.vocabulary.text_id.shape[0],
            )  # fmt: skip
            seen = seen._replace(progress=progress)
        if s.operator_preview:
            preview = self.preview(row, prediction.tokens, step)
            seen = seen._replace(preview=jnp.array(preview, jnp.float32))
        if s.filled:
            proposed = prediction.tokens.token
            whole = [p if t == s.mask_id else t for t, p in zip(row.tokens, proposed, strict=True)]
            seen = seen._replace(filled=FilledRows(jnp.array(whole, jnp.int32), *self.prompt))
        out = self.heads(jax.tree.map(lambda x: x[None], seen), jnp.array([step], jnp.int32))
        return np.asarray(out.logits[0]), np.asarray(out.q[0])

    def pick(self, logits, legal, turn):
        logits = [x if a in legal else -math.inf for a, x in enumerate(logits)]
        if self.s.selection_mode == "argmax":
            return int(np.argmax(logits))
        key = jax.random.fold_in(jax.random.fold_in(self.key, turn), 1)
        return int(jax.random.categorical(key, jnp.array(logits)))

    def forced(self, step):
        return self.s.update_rule == "denoise" and step == self.s.max_steps - 1

    def cheapest(self):
        return min(range(len(self.s.operators)), key=lambda a: (self.cost(a), a))

    def open(self, row, step):
        """Positions that may change."""
        if self.s.update_rule == "overwrite":
            return set(range(self.s.gen_len)) - self.fixed
        masked = {i for i, t in enumerate(row.tokens) if t == self.s.mask_id}
        return masked | self.due(row, step)

    def legal(self, row, proposal, step):
        """The operators that may be chosen."""
        every = list(range(len(self.s.operators)))
        if self.forced(step):
            return [self.cheapest()]
        if self.s.empty_operator == "fallback":
            return every
        acts = [a for a in every if self.select(row, proposal, a, step) & self.open(row, step)]
        return acts or every

    def select(self, row, proposal, operator, step):
        s, size = self.s, self.s.gen_len
        own = s.operators[operator]
        masked = [t == s.mask_id for t in row.tokens]
        seen = [
            int(p) if m and s.update_rule == "denoise" else t
            for t, p, m in zip(row.tokens, proposal.token, masked, strict=True)
        ]
        tables = {"O_NUM": self.has_digit, "O_OP": self.is_operator}
        if own.name in tables:
            wanted = [i for i in range(size) if tables[own.name][seen[i]]]
            return set(wanted[::-1][: own.max_tokens])
        frontier = [i for i, m in enumerate(masked) if m]
        if s.update_rule == "denoise":
            frontier = frontier or sorted(self.due(row, step))
        if own.name == "O_SHARE":
            length = next((i for i, t in enumerate(seen) if self.is_eos[t]), size)
            count = max(math.ceil(round(own.share * length, 3)), 1)
            rest = sum(i < length for i in frontier) <= count
            return set(frontier if rest else frontier[:count])
        if own.name == "O_CONFIDENT":
            best = sorted(frontier, key=lambda i: (-proposal.confidence[i], i))
            return set(best[: own.max_tokens])
        window = 1 if own.name == "O_NEXT" else own.scope_len
        start = max(size - window, 0)
        if s.scope_anchor == "frontier" and any(masked):
            start = masked.index(True)
        elif s.scope_anchor == "frontier" and self.due(row, step):
            start = min(self.due(row, step))
        return set(range(start, min(start + window, size)))

    def reveals(self, row, proposal, operator, step):
        """The positions that an operator would write, `denoise`."""
        s = self.s
        masked = {i for i, t in enumerate(row.tokens) if t == s.mask_id}
        if step == s.max_steps - 1:
            return masked
        selected = masked & self.select(row, proposal, operator, step)
        order = sorted(selected, key=lambda i: (-proposal.confidence[i], i))
        own = s.operators[operator]
        quota = math.ceil(round(own.step_scale * s.gen_len / s.max_steps, 9))
        sure = {i for i in selected if proposal.confidence[i] > np.float32(own.threshold)}
        return set(order[:quota]) | sure

    def preview(self, row, proposal, step):
        s, would = self.s, []
        for operator in range(len(s.operators)):
            if s.update_rule == "overwrite":
                would.append(self.select(row, proposal, operator, step) - self.fixed)
            else:
                would.append(self.reveals(row, proposal, operator, step))
        sure = [[float(proposal.confidence[i]) for i in positions] or [1.0] for positions in would]
        written = [c for t, c in zip(row.tokens, row.confidence, strict=True) if t != s.mask_id]
        logs = [math.log(max(c, 1e-6)) for c in written]
        return (
            [len(positions) / s.gen_len for positions in would]
            + [sum(values) / len(values) for values in sure]
            + [min(values) for values in sure]
            + [sum(logs) / s.gen_len, min(written, default=1.0)]
        )

    def due(self, row, step):
        """Revealed positions that repair may take back, and how many positions may be masked."""
        s = self.s
        if s.update_rule == "overwrite" or not s.repair_tokens:
            return set()
        room = math.ceil(s.gen_len / s.max_steps) * (s.max_steps - 1 - step)
        if sum(t == s.mask_id for t in row.tokens) >= room:
            return set()
        return {
            i
            for i, t in enumerate(row.tokens)
            if t != s.mask_id and i not in self.fixed and row.confidence[i] < s.repair_threshold
        }

    def finished(self, row, step):
        if self.s.update_rule == "overwrite":
            return False
        return self.s.mask_id not in row.tokens and not self.due(row, step)

    def act(self, row, proposal, operator, step):
        """Returns the operator that acted, the next row, and the positions written."""
        s = self.s
        masked = {i for i, t in enumerate(row.tokens) if t == s.mask_id}
        selected = self.select(row, proposal, operator, step)
        empty = not selected & self.open(row, step) and not self.forced(step)
        if empty and s.empty_operator == "fallback":
            operator = s.fallback_operator
            selected = self.select(row, proposal, operator, step)
        after = Row(list(row.tokens), list(row.confidence), list(row.entropy))
        write = selected - self.fixed
        if s.update_rule == "denoise":
            write = self.reveals(row, proposal, operator, step)
        for i in write:
            after.tokens[i] = int(proposal.token[i])
            after.confidence[i] = float(proposal.confidence[i])
            after.entropy[i] = float(proposal.entropy[i])
        repairable = sorted(self.due(row, step) & selected, key=lambda i: (row.confidence[i], i))
        room = math.ceil(s.gen_len / s.max_steps) * (s.max_steps - 1 - step)
        room -= len(masked - write)
        for i in repairable[: max(0, min(room, s.repair_tokens))]:
            after.tokens[i], after.confidence[i], after.entropy[i] = s.mask_id, 0.0, 0.0
        return operator, after, write

    def cost(self, operator):
        own = self.s.operators[operator]
        extra = {"O_BRANCH": "branch_depth", "O_FAST": "extra_cost"}.get(own.name)
        return own.cost + (getattr(own, extra) if extra else 0.0)

    def valued(self, row, previous, prediction, step):
        """What the heads say of a row at a step, the legal operators, and V under the actor."""
        logits, q = self.observe(row, previous, prediction, step)
        legal = self.legal(row, prediction.tokens, step)
        weights = {a: math.exp(logits[a]) for a in legal}
        value = sum(w * q[a] for a, w in weights.items()) / sum(weights.values())
        return logits, q, legal, value

    def run(self):
        s = self.s
        certain = [float(i in self.fixed) for i in range(s.gen_len)]
        row = Row(list(self.given), certain, [0.0] * s.gen_len)
        previous, inherited, steps = row.tokens, None, []
        step, whole, attempts, rule = 0, 0, [], s.remasking
        for turn in range(s.row_steps):
            if self.finished(row, step):
                break
            if rule is not None and turn == rule.passes - 1:
                step = s.max_steps - 1
            valued = int(s.filled)  # a critic that is a backbone makes a pass beside each
            passes = int(inherited is None)
            prediction = self.forward(row, turn) if inherited is None else inherited
            if s.draw.likeliest and not attempts:
                likeliest = prediction.tokens._replace(
                    token=prediction.tokens.likeliest, confidence=prediction.tokens.highest
                )
                prediction = prediction._replace(tokens=likeliest)
            before, looks = step, 1
            if s.stop_value is not None:
                *_, value = self.valued(row, previous, prediction, s.max_steps - 1)
                step, looks = s.max_steps - 1 if value >= s.stop_value else step, 2
            logits, q, legal, value = self.valued(row, previous, prediction, step)
            chosen = self.pick(logits, legal, turn)
            passes += looks * valued
            operator, after, write = self.act(row, prediction.tokens, chosen, step)
            inherited, candidates = None, []
            scheduled = step in s.branch_steps
            branches = s.operators[operator].name == "O_BRANCH"
            if s.branch and step < s.max_steps - 1 and (scheduled or branches):
                others = [a for a in legal if s.operators[a].name != "O_BRANCH"]
                ranked = sorted(others, key=lambda a: (-q[a], a))[: s.branch_k]
                instead = ranked[0] if ranked else chosen
                for pick in ranked + [instead] * (s.branch_k - len(ranked)):
                    acted, next_row, wrote = self.act(row, prediction.tokens, pick, step)
                    following = self.forward(next_row, step + 1)
                    _, next_q = self.observe(next_row, row.tokens, following, step + 1)
                    then = self.legal(next_row, following.tokens, step + 1)
                    best = max(float(next_q[a]) for a in then)
                    candidates.append((acted, next_row, wrote, following, best))
                passes += len(candidates) * (1 + valued)
                scores = [c[4] - s.cost_lambda * self.cost(c[0]) for c in candidates]
                winner = candidates[int(np.argmax(scores))]
                acted, after, write, inherited, _ = winner
                operator = acted if scheduled else operator
            argmax = s.draw.strategy == "argmax"
            told = s.time_conditioned and s.sigma == "schedule"
            if argmax and not told and not s.branch and after.tokens == row.tokens:
                inherited = prediction
            steps.append(
                dict(
                    operator=operator, chosen=chosen, written=sorted(write), passes=passes,
                    legal=legal, decided=not self.forced(step) and not (scheduled and candidates),
                    cost=self.cost(operator), tokens=row.tokens,
                    candidates=[(c[0], c[4]) for c in candidates],
                )
            )  # fmt: skip
            previous, row, ended = row.tokens, after, self.finished(after, step + 1)
            step = before + 1
            if not ended:
                continue
            attempts.append((value, row.tokens))
            if rule is None:
                break
            whole = step if len(attempts) == 1 else whole
            left = math.ceil(round(rule.share * whole, 3))
            weakest = sorted(
                set(range(s.gen_len)) - self.fixed, key=lambda i: (row.confidence[i], i)
            )
            if value >= rule.value or turn + 1 + left > rule.passes or not weakest:
                break
            previous, row, step = row.tokens, copy.deepcopy(row), whole - left
            for i in weakest[: math.ceil(round(rule.share * s.gen_len, 9))]:
                row.tokens[i], row.confidence[i], row.entropy[i] = s.mask_id, 0.0, 0.0
        if rule is not None and attempts:
            return max(attempts, key=lambda attempt: attempt[0])[1], steps
        return row.tokens, steps
