"""What PyTorch, Optax and Keras give to an optimizer and ours are not given: what to do here instead.

What is the same thing by another name is in :data:`thalweg.rules.spelling.USUAL`.
"""

from __future__ import annotations

from thalweg.rules.base import Rule

A_DECAY = (
    "says how weight_decay acts. Optax's decay is rho; what Keras's optimizers had is "
    "learning_rate=tw.schedules.Inv(rate, gamma=decay, power=1.0, decay_on_iteration=True)"
)
"""What the number is that is called ``decay`` elsewhere."""

_HOW = "leave it out, it is about how a step is computed and not about what"
_PARTS = "give groups=[{'variables': ['*.bias'], 'weight_decay': 0.0}] for what shall have none"

ADVICE: dict[str, str] = {
    # other rules
    "momentum": "use tw.Momentum, tw.Nesterov or tw.RMSProp",
    "nesterov": "use tw.Nesterov, or tw.Nadam, which is Adam with it",
    "amsgrad": "use tw.AMSGrad, with decay='decoupled' for AdamW's weight decay",
    "centered": "use tw.RMSProp, which has it",
    "lr_decay": "give learning_rate=tw.schedules.Inv(rate, gamma=lr_decay, power=1.0, decay_on_iteration=True)",
    "dampening": "leave it out if it is 0, PyTorch's default; no rule here has another",
    # forms
    "decoupled_weight_decay": "give decay='decoupled'",
    "eps_in_sqrt": "give epsilon_form='inside' to tw.RMSProp or tw.AdaGrad",
    "eps_root": "there is one epsilon; where it goes says epsilon_form, where a rule has that",
    "initial_scale": "leave it out, the mean of squares starts at 0",
    "bias_correction": "tw.Adam(beta1=0.0) is RMSProp with it",
    # weight decay
    "weight_decay": "give process_grad=tw.transforms.add_decay(...), which adds it to the gradient",
    "weight_decay_rate": "give weight_decay; decay='decoupled' is AdamW's",
    "mask": _PARTS,
    "weight_decay_mask": _PARTS,
    "exclude_from_weight_decay": _PARTS,
    # gradients
    "clipnorm": "give process_grad=tw.transforms.clip_norm(limit)",
    "clipvalue": "give process_grad=tw.transforms.clip_value(limit)",
    "global_clipnorm": "give process_grad=tw.transforms.clip_global_norm(limit)",
    "max_grad_norm": "give process_grad=tw.transforms.clip_global_norm(limit)",
    "maximize": "give process_grad=lambda grad: -grad, or the gradient of the negative",
    "loss_scale_factor": "give process_grad=tw.transforms.scale(1 / factor) for a loss that was scaled",
    # averages
    "ema_momentum": "give wrap=['ema'], and ema_decay",
    "use_ema": "give wrap=['ema'], and ema_decay for its momentum",
    "ema_overwrite_frequency": "give wrap=['ema'], and evaluate the model inside with optimizer.evaluating()",
    # how it is computed
    "foreach": _HOW,
    "fused": _HOW,
    "capturable": _HOW,
    "jit_compile": _HOW,
    "differentiable": "no step can be differentiated here; leave it out",
    "mu_dtype": "the state has the parameter's dtype, float32 for one of 16 bits; leave it out",
    "accumulator_dtype": "the state has the parameter's dtype, float32 for one of 16 bits; leave it out",
    # what else they are given
    "params": "give the variables first, without a name",
    "parameters": "give the variables first, without a name",
    "warmup_steps": "give learning_rate=tw.schedules.WarmUp(rate, duration=warmup_steps)",
    "schedule": "a schedule is given in the place of a number: learning_rate=tw.schedules.Exp(...)",
    "scheduler": "a schedule is given in the place of a number: learning_rate=tw.schedules.Exp(...)",
}
"""By the name that they have there; what a rule here has by that name, it is simply given."""


METHODS: dict[str, str] = {
    # PyTorch's
    "zero_grad": "call clear_grad()",
    "state_dict": "call state(), or dump(path) for a file",
    "load_state_dict": "call restore(state), or load(path)",
    "param_groups": "see groups; for modules there is thalweg.optimizers.torch.TorchOptimizer",
    "add_param_group": "give groups=[...]; for modules there is thalweg.optimizers.torch.TorchOptimizer",
    # Keras's and Optax's
    "minimize": "await step(grad=...) with the gradient, or step() once it is in the variables",
    "apply_gradients": "await step(grad=...)",
    "apply_updates": "await step(grad=...)",
    "init": "for pytrees there is thalweg.optimizers.jax.JaxOptimizer",
    "build": "call bind(variables)",
    # PyCMTensor's, Theano's
    "get_updates": "call update(cost, params), for PyTensor",
}
"""What their optimizers can be asked, and what to do with ours."""


OF_ITS_OWN: dict[str, str] = {
    "decoupled_weight_decay": "leave it out, weight_decay acts in this rule's own way",
    "weight_decay_rate": "give weight_decay",
}
"""What differs where there is a weight_decay, and no choice how it acts."""


def advice(rule: Rule, name: str) -> str | None:
    """What to do instead of giving a rule what it does not have.

    Args:
        rule: the rule, with weight decay.
        name: what was given.

    Returns:
        A sentence, or ``None``.

    Example:
        >>> from thalweg import rules
        >>> from thalweg.optimizers.elsewhere import advice
        >>> advice(rules.sgd, "clipvalue")
        'give process_grad=tw.transforms.clip_value(limit)'
        >>> advice(rules.nesterov, "nesterov")
        'leave it out, it is what this rule does'
    """
    if name == rule.name:
        return "leave it out, it is what this rule does"
    if name in OF_ITS_OWN and "decay" not in rule.options:
        return OF_ITS_OWN[name] if "weight_decay" in rule.hyperparameters else ADVICE["weight_decay"]
    return ADVICE.get(name)
