"""REOAC on MATH (competition problems) with the published 170M masked-diffusion backbone.

    python -m reoac_jax.train --config configs/math.py

Needs `checkpoints/mdlm-owt` (`python convert/mdlm_to_flax.py --output checkpoints/mdlm-owt`) and
`data/processed/math_{train,test}.jsonl` (`bash scripts/download_data.sh math configs/math.py all`).
As configs/gsm8k.py, with longer prompts and answers: on MATH-500 a problem has 73 GPT-2 tokens and
a solution 228 on average, and gen_len 256 cuts 31 % of the solutions. A step computes about three
times what one of GSM8K does and there are twice as many: expect six times the cost. A model of this
size is not expected to solve these problems; the file is for measuring, and for larger backbones.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The complete configuration: every key of the program is here."""
    config = ConfigDict()
    config.exp_name = "math"  # runs go to <output_dir>/<exp_name>/<timestamp>
    config.output_dir = "runs"
    config.seed = 0  # every random number of a run derives from it

    backbone = config.backbone = ConfigDict()
    backbone.path = "checkpoints/mdlm-owt"  # folder written by convert/mdlm_to_flax.py
    backbone.finetune_mode = "lora"  # lora | full | frozen (actor and critic only)
    backbone.dropout = 0.1  # in the backbone's own update, never in rollouts
    backbone.compute_dtype = "auto"  # auto (bfloat16 on GPU, else float32) | float32 | bfloat16
    backbone.attention = "auto"  # auto (cudnn on GPU with bfloat16, else xla) | xla | cudnn
    backbone.remat = "none"  # none (faster) | blocks (an update keeps less in memory)
    backbone.tokenizer_source = "mdlm"  # mdlm (GPT-2, the model's mask) | auto (with the weights)
    backbone.tokenizer_path = "gpt2"  # hub id or local folder, read when tokenizer_source is mdlm

    lora = config.lora = ConfigDict()
    lora.rank = 8
    lora.alpha = 16.0  # the overlay is scaled by alpha / rank
    lora.dropout = 0.0
    lora.targets = ()  # patterns over parameter paths; empty: attn_qkv and attn_out
    lora.adapter = "none"  # none | folder of a PEFT adapter that the overlay starts from

    task = config.task = ConfigDict()
    task.name = "math"
    task.train_file = "data/processed/math_train.jsonl"
    task.test_file = "data/processed/math_test.jsonl"

    rollout = config.rollout = ConfigDict()
    rollout.max_steps = 64
    rollout.gen_len = 256  # generated tokens a row
    rollout.max_prompt_len = 512  # longer prompts are cut at the left and counted
    rollout.update_rule = "denoise"  # denoise | overwrite (the original's)
    rollout.scope_anchor = "frontier"  # frontier (first masked position) | end (the original's)
    rollout.sample_strategy = "sample"  # sample | argmax: how a token is drawn
    rollout.temperature = 1.0  # of the token draw
    rollout.selection_mode = "sample"  # sample | argmax: how an operator is picked
    rollout.ensure_update = True  # the fallback replaces an operator that could change nothing
    rollout.fallback_operator = "O_SCOPE"
    rollout.repair_tokens = 0  # denoise: tokens masked again a step, at most; 0: no repair
    rollout.repair_threshold = 0.5  # denoise: only tokens written with less confidence than this
    rollout.branch_steps = (8, 16, 24)  # steps, from 0, at which every row branches
    rollout.branch_k = 3  # candidates a branching step compares; 0 switches branching off
    rollout.sigma_schedule = "cosine"  # cosine | linear; seen by time-conditioned backbones only
    rollout.sigma_min = 0.0001
    rollout.sigma_max = 1.0
    rollout.batch_size = 8  # rows denoised together, per device

    features = config.features = ConfigDict()
    features.relation_temperature = 1.0
    features.use_hidden = True  # append the mean hidden state to the actor's and critic's input
    features.extra_features = False  # append progress and confidence statistics
    features.operator_preview = False  # append what each operator would reveal, how surely

    operators = config.operators = ConfigDict()
    # A step of O_BRANCH costs cost + branch_depth, of O_FAST cost + extra_cost.
    operators.O_NUM = ConfigDict(dict(max_tokens=16, cost=1.2))
    operators.O_OP = ConfigDict(dict(max_tokens=16, cost=1.1))
    operators.O_SCOPE = ConfigDict(dict(scope_len=64, cost=1.0))
    operators.O_BRANCH = ConfigDict(dict(scope_len=64, cost=2.0, branch_depth=1.0))
    operators.O_FAST = ConfigDict(dict(scope_len=128, step_scale=1.5, cost=1.5, extra_cost=0.5))

    heads = config.heads = ConfigDict()
    heads.actor_hidden = (256, 256)  # widths of the actor's hidden layers
    heads.critic_hidden = (256, 256)

    reward = config.reward = ConfigDict()
    reward.mode = "strict"  # strict (0 or 1) | shaped (in [0, 1]; training only)
    reward.cost_lambda = 0.01  # return = reward - cost_lambda * sum of step costs

    objective = config.objective = ConfigDict()
    objective.actor = "soft_q"  # soft_q (the original's) | policy_gradient
    objective.backbone = "reference"  # reference (the original's) | generated (its own text)
    objective.advantage = "group"  # group (the prompt's other episodes) | critic (GAE)
    objective.advantage_decay = 0.9  # advantage critic: lambda of GAE
    # Each objective's own settings, read where it is chosen.
    objective.soft_q = ConfigDict(dict(temperature=1.0))  # of softmax(Q / temperature)
    objective.policy_gradient = ConfigDict(dict(clip_ratio=0.2, entropy_weight=0.01))
    # No update away from failed episodes; bound on |advantage|, 0: none.
    objective.reference = ConfigDict(dict(advantage_positive=True, advantage_clip=0.0))
    objective.generated = ConfigDict(dict(advantage_positive=True, advantage_clip=0.0))

    optimizer = config.optimizer = ConfigDict()
    optimizer.actor_rate = 1e-4
    optimizer.critic_rate = 1e-4
    optimizer.backbone_rate = 5e-6
    optimizer.weight_decay = 0.01
    optimizer.gradient_clip = 1.0  # global norm, each of the three; 0: none

    train = config.train = ConfigDict()
    train.iterations = 50
    train.episodes_per_iter = 32
    train.episodes_per_prompt = 1  # policy_gradient compares the episodes of one prompt: 2 or more
    train.critic_steps = 2  # gradient steps an iteration; 0 switches an update off
    train.actor_steps = 1
    train.backbone_steps = 1
    train.head_batch = 256  # transitions in an actor or critic minibatch
    train.backbone_batch = 4  # transitions in a backbone minibatch
    train.backbone_accumulate = 1  # microbatches that a backbone minibatch is cut into
    train.buffer_size = 800  # episodes kept in replay, oldest leave first

    sft = config.sft = ConfigDict()  # python -m reoac_jax.sft; its dropout is backbone.dropout
    sft.mode = "full"  # lora | full: what of the backbone is trained
    sft.steps = 5000
    sft.batch_size = 64  # examples a gradient step, on all devices together
    sft.accumulate = 16  # microbatches that a gradient step is made of
    sft.learning_rate = 3e-5
    sft.warmup_steps = 200  # linear rise, then cosine decay
    sft.final_rate = 0.1  # share of learning_rate left at the end
    sft.weight_decay = 0.01  # of matrices
    sft.beta2 = 0.999  # of AdamW
    sft.gradient_clip = 1.0  # global norm; 0: none
    sft.ema_decay = 0.9999  # of the weights that are evaluated and kept; warmed up, (1+n)/(10+n)
    sft.eos_weight = 0.1  # of the eos padding behind an answer's own eos, which weighs 1
    sft.short_share = 0.2  # examples whose row ends with the answer's own eos, without padding
    sft.log_every = 10  # steps between lines of metrics.jsonl
    sft.eval_every = 500  # steps between evaluations (NELBO and accuracy on test problems)
    sft.eval_problems = 128  # the first of the test split
    sft.eval_samples = 4  # noise levels for each row of a NELBO estimate
    sft.eval_steps = 256  # steps of the confidence decoding that the accuracy is measured with
    sft.checkpoint_every = 250

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
    evaluation.batch_size = 8
    evaluation.sample_strategy = "argmax"
    evaluation.selection_mode = "argmax"
    evaluation.branch = False  # branch in evaluation as in training
    evaluation.block_len = 32  # tokens of a block, for --policy blocks

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
