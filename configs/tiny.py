"""REOAC on countdown with a 3-block backbone: the whole chain in minutes on a laptop.

    python -m reoac_jax.train --config configs/tiny.py

Needs `checkpoints/tiny_mdlm` (`python convert/mdlm_to_flax.py --source data/tiny_mdlm --output
checkpoints/tiny_mdlm`); the problems come from a seeded generator. Three numbers make a prompt of 6
tokens and an answer of 12 tokens and eos, in a row of 20 that ends in padding (four numbers make
18); 7 steps write about 3 tokens each. The backbone stays frozen: only actor and critic learn, by a
policy gradient over 12 episodes of each of 96 problems an iteration. Cost: 20 iterations, about a
minute and a half on 2 CPU cores. Result to expect, on unseen problems in 7 steps: confidence
decoding solves 18 %, random operators 22 %, blocks of 4, the best of the usual samplers, 33 %, the
trained actor 54 %.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The complete configuration: every key of the program is here."""
    config = ConfigDict()
    config.exp_name = "tiny"  # runs go to <output_dir>/<exp_name>/<timestamp>
    config.output_dir = "runs"
    config.seed = 0  # every random number of a run derives from it

    backbone = config.backbone = ConfigDict()
    backbone.path = "checkpoints/tiny_mdlm"  # folder written by convert/mdlm_to_flax.py
    backbone.finetune_mode = "frozen"  # lora | full | frozen (actor and critic only)
    backbone.dropout = 0.1  # in the backbone's own update, never in rollouts
    backbone.compute_dtype = "float32"  # auto (bfloat16 on GPU, else float32) | float32 | bfloat16
    backbone.attention = "auto"  # auto (cudnn on GPU with bfloat16, else xla) | xla | cudnn
    backbone.remat = "none"  # none (faster) | blocks (an update keeps less in memory)
    backbone.tokenizer_source = "auto"  # mdlm (GPT-2, the model's mask) | auto (with the weights)
    backbone.tokenizer_path = "gpt2"  # hub id or local folder, read when tokenizer_source is mdlm

    lora = config.lora = ConfigDict()
    lora.rank = 8
    lora.alpha = 16.0  # the overlay is scaled by alpha / rank
    lora.dropout = 0.0
    lora.targets = ()  # patterns over parameter paths; empty: attn_qkv and attn_out
    lora.adapter = "none"  # none | folder of a PEFT adapter that the overlay starts from

    task = config.task = ConfigDict()
    task.name = "countdown"
    task.numbers = 3  # given numbers, 3 to 6
    task.max_number = 25  # given numbers are 1 to this
    task.max_intermediate = 120  # results on the way to the target are at most this
    task.ordered = False  # whether the larger operand of + and * is always written first
    # Supervised fine-tuning saw the part "supervised"; the policy learns on problems new to it.
    task.train_part = "reserved"  # all | supervised | reserved
    task.train_size = 20000  # problems
    task.test_size = 1000
    task.seed = 0  # of the generator; the problems do not depend on config.seed

    rollout = config.rollout = ConfigDict()
    rollout.max_steps = 7
    rollout.gen_len = 20  # generated tokens a row
    rollout.max_prompt_len = 16  # longer prompts are cut at the left and counted
    rollout.update_rule = "denoise"  # denoise | overwrite (the original's)
    rollout.scope_anchor = "frontier"  # frontier (first masked position) | end (the original's)
    rollout.sample_strategy = "argmax"  # sample | argmax: how a token is drawn
    rollout.temperature = 1.0  # of the token draw
    rollout.selection_mode = "sample"  # sample | argmax: how an operator is picked
    rollout.ensure_update = True  # the fallback replaces an operator that could change nothing
    rollout.fallback_operator = "O_SCOPE"
    rollout.repair_tokens = 0  # denoise: tokens masked again a step, at most; 0: no repair
    rollout.repair_threshold = 0.5  # denoise: only tokens written with less confidence than this
    rollout.branch_steps = ()  # steps, from 0, at which every row branches
    rollout.branch_k = 0  # candidates a branching step compares; 0 switches branching off
    rollout.sigma_schedule = "cosine"  # cosine | linear; seen by time-conditioned backbones only
    rollout.sigma_min = 0.0001
    rollout.sigma_max = 1.0
    rollout.batch_size = 384  # rows denoised together, per device

    features = config.features = ConfigDict()
    features.relation_temperature = 1.0
    features.use_hidden = False  # append the mean hidden state to the actor's and critic's input
    features.extra_features = True  # append progress and confidence statistics
    features.operator_preview = True  # append what each operator would reveal, how surely

    operators = config.operators = ConfigDict()
    # A step of O_BRANCH costs cost + branch_depth, of O_FAST cost + extra_cost.
    operators.O_NUM = ConfigDict(dict(max_tokens=20, cost=1.2))
    operators.O_OP = ConfigDict(dict(max_tokens=20, cost=1.1))
    operators.O_SCOPE = ConfigDict(dict(scope_len=6, cost=1.0))
    # With branch_k 0 nothing branches: O_BRANCH is a window of one position.
    operators.O_BRANCH = ConfigDict(dict(scope_len=1, cost=1.0, branch_depth=0.0))
    operators.O_FAST = ConfigDict(dict(scope_len=20, step_scale=4.0, cost=1.5, extra_cost=0.5))

    heads = config.heads = ConfigDict()
    heads.actor_hidden = (64, 64)  # widths of the actor's hidden layers
    heads.critic_hidden = (64, 64)

    reward = config.reward = ConfigDict()
    reward.mode = "strict"  # strict (0 or 1) | shaped (in [0, 1]; training only)
    reward.cost_lambda = 0.01  # return = reward - cost_lambda * sum of step costs

    objective = config.objective = ConfigDict()
    objective.actor = "policy_gradient"  # soft_q (the original's) | policy_gradient
    objective.backbone = "generated"  # reference (the original's) | generated (its own text)
    objective.advantage = "group"  # group (the prompt's other episodes) | critic (GAE)
    objective.advantage_decay = 0.9  # advantage critic: lambda of GAE
    # Each objective's own settings, read where it is chosen.
    objective.soft_q = ConfigDict(dict(temperature=1.0))  # of softmax(Q / temperature)
    objective.policy_gradient = ConfigDict(dict(clip_ratio=0.2, entropy_weight=0.003))
    # No update away from failed episodes; bound on |advantage|, 0: none.
    objective.reference = ConfigDict(dict(advantage_positive=True, advantage_clip=0.0))
    objective.generated = ConfigDict(dict(advantage_positive=True, advantage_clip=0.0))

    optimizer = config.optimizer = ConfigDict()
    optimizer.actor_rate = 3e-3
    optimizer.critic_rate = 1e-3
    optimizer.backbone_rate = 1e-4
    optimizer.weight_decay = 0.01
    optimizer.gradient_clip = 1.0  # global norm, each of the three; 0: none

    train = config.train = ConfigDict()
    train.iterations = 20
    train.episodes_per_iter = 1152
    train.episodes_per_prompt = 12  # policy_gradient compares the episodes of one prompt: 2 or more
    train.critic_steps = 16  # gradient steps an iteration; 0 switches an update off
    train.actor_steps = 16
    train.backbone_steps = 8
    train.head_batch = 2048  # transitions in an actor or critic minibatch
    train.backbone_batch = 192  # transitions in a backbone minibatch
    train.backbone_accumulate = 1  # microbatches that a backbone minibatch is cut into
    train.buffer_size = 4608  # episodes kept in replay, oldest leave first: for the critic

    sft = config.sft = ConfigDict()  # python -m reoac_jax.sft; its dropout is backbone.dropout
    sft.mode = "full"  # lora | full: what of the backbone is trained
    sft.steps = 4000
    sft.batch_size = 192  # examples a gradient step, on all devices together
    sft.accumulate = 1  # microbatches that a gradient step is made of
    sft.learning_rate = 1e-3
    sft.warmup_steps = 200  # linear rise, then cosine decay
    sft.final_rate = 0.1  # share of learning_rate left at the end
    sft.weight_decay = 0.01  # of matrices
    sft.beta2 = 0.98  # of AdamW
    sft.gradient_clip = 1.0  # global norm; 0: none
    sft.ema_decay = 0.999  # of the weights that are evaluated and kept; warmed up, (1+n)/(10+n)
    sft.eos_weight = 1.0  # of the eos padding behind an answer's own eos, which weighs 1
    sft.short_share = 0.0  # examples whose row ends with the answer's own eos, without padding
    sft.log_every = 50  # steps between lines of metrics.jsonl
    sft.eval_every = 500  # steps between evaluations (NELBO and accuracy on test problems)
    sft.eval_problems = 500  # the first of the test split
    sft.eval_samples = 4  # noise levels for each row of a NELBO estimate
    sft.eval_steps = 20  # steps of the confidence decoding that the accuracy is measured with
    sft.checkpoint_every = 500

    sharding = config.sharding = ConfigDict()
    # full: weights and optimiser state in parts over the devices (FSDP), gathered where used
    sharding.fsdp = False

    # Several processes of python -m reoac_jax.train, one run; other commands use their own devices.
    distributed = config.distributed = ConfigDict()
    distributed.mode = "off"  # off | auto (SLURM and what else jax finds) | explicit (keys below)
    distributed.coordinator = "localhost:12321"  # host and port of process 0
    distributed.processes = 1
    distributed.index = 0  # of this process, from 0

    checkpoint = config.checkpoint = ConfigDict()
    checkpoint.every = 5  # iterations between saves; the last iteration is always saved
    checkpoint.keep_latest = 2
    checkpoint.keep_best = 1  # by mean reward

    evaluation = config.evaluation = ConfigDict()
    evaluation.batch_size = 384
    evaluation.sample_strategy = "argmax"
    evaluation.selection_mode = "argmax"
    evaluation.branch = False  # branch in evaluation as in training
    evaluation.block_len = 4  # tokens of a block, for --policy blocks

    grader = config.grader = ConfigDict()
    grader.workers = 2  # processes
    grader.timeout = 10.0  # seconds an item may take before it counts as wrong

    compilation = config.compilation = ConfigDict()
    compilation.cache_dir = "auto"  # compiled programs: auto (the user's cache folder), off, a path

    logging = config.logging = ConfigDict()
    logging.samples_per_iter = 2  # episodes written to samples/ each iteration
    logging.tensorboard = False  # event files in the run's tensorboard/, besides metrics.jsonl
    logging.wandb = False  # Weights & Biases, needs pip install "reoac-jax[wandb]"
    return config
