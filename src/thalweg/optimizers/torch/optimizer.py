"""A rule on a PyTorch module's parameters, in place: a ``torch.optim.Optimizer`` like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from thalweg.errors import OptimizerError
from thalweg.lowering.batch import UNBOUNDED
from thalweg.lowering.torch import COMPUTED_IN, evaluate, torch
from thalweg.lowering.torch_units import Compiled, Unit
from thalweg.optimizers.interrupts import held
from thalweg.optimizers.telling import tell_standing
from thalweg.optimizers.torch import late
from thalweg.optimizers.torch.checks import fitting, not_finite
from thalweg.optimizers.torch.configured import ConfiguredTorchOptimizer
from thalweg.optimizers.torch.hooks import run_all
from thalweg.optimizers.torch.seating import Plan, Seat, State, fresh
from thalweg.optimizers.unbound import refuse_arguments

_INSTEAD = {
    "step_size": 'the learning rate is optimizer.param_groups[0]["lr"], which can be set before each step',
    "grad": "gradients are the parameters' grad",
    "processed_grad": "put it into the parameter's grad, and make the optimizer without process_grad",
}

T = TypeVar("T")


class Given(NamedTuple):
    """A parameter with the gradient that it has."""

    param: torch.Tensor
    grad: torch.Tensor
    group: int
    place: int


class TorchOptimizer(ConfiguredTorchOptimizer):
    """A ``torch.optim.Optimizer`` that computes what one of our optimizers computes, in its words.

    The recipe is an optimizer without variables. It gives the rule in its form (``convention``, ``wrap``), the
    hyperparameters, weight decay, ``groups`` by the parameters' names, ``process_grad`` and ``process_model`` (on
    tensors), ``accumulate``, and what to do with gradients that are not finite: before anything is changed, for all
    parameters together.

    All of PyTorch's machinery works: param groups, ``state_dict``, closures, hooks, ``torch.optim.lr_scheduler``.

    - In param groups the learning rate is ``lr``, and β₁ and β₂ are ``betas``; all other hyperparameters have our
      names. What is set in a group holds from the next step. Each is a number, a schedule, or an array of float32 or
      float64 like the group's parameters: a NumPy array (also if a tensor was given), which cannot be written to.
      Other keys are marks of your own. What another rule or a misspelling would mean by one is an error, also if it is
      set later: nobody would read it.
    - A parameter whose ``grad`` is ``None`` is left alone and counts no step: its bias corrections start with its
      first gradient. A call in which no parameter has a gradient is no step.
    - A hyperparameter that is one of our schedules follows ``optimization_state``: each step counts an iteration, the
      loop says ``begin_epoch()``. It goes before whatever a ``torch.optim.lr_scheduler`` writes into the group,
      where it shows what it said last. A ``Plateau`` of the recipe is copied: :meth:`observe` tells this optimizer's.
      One in a table, or set in a param group, is your own object: two optimizers that share it tell it two metrics.
    - To look for gradients that are not finite takes one wait for the device in each step, which
      ``nonfinite="ignore"`` saves on a GPU.
    - Parameters of bfloat16 and float16 have state of float32, are computed with in float32, and are rounded when
      they are written.

    Args:
        params: ``model.named_parameters()`` (then groups, hooks and errors go by name, and there are snapshots),
            ``model.parameters()``, or a list of tables with ``params`` and hyperparameters. Dense leaf tensors of
            float64, float32, bfloat16 or float16 on any device, no two of which share memory.
        recipe: one of our optimizers without variables, such as ``tw.AdamW(learning_rate=1e-3)``. It is read once.
            Hyperparameters are given to it, not here.
        kernel: ``"auto"``: contiguous float32 and float64 on the CPU in one pass of the NumPy lowering's compiled
            kernel, all others in PyTorch's operations. ``"shared"``: all in that pass, or it is an error.
            ``"native"``: all in PyTorch's operations.

    Raises:
        ParameterError: a parameter cannot be updated in place, or shares memory with another.
        HyperparameterError: the recipe or ``kernel`` is something else, or a param group has a hyperparameter that is
            unknown, out of its range, or an array of another shape than one of its parameters.
        OptimizerError: the recipe is bound to variables or has methods of its own, or finds parameters by name where
            these have none.

    Example:
        >>> import torch
        >>> import thalweg as tw
        >>> from thalweg.optimizers.torch import TorchOptimizer
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = TorchOptimizer(model.named_parameters(), tw.AdamW(learning_rate=1e-3))
        >>> scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        >>> model(torch.ones(4, 2)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.zero_grad()
        >>> scheduler.step()
        >>> optimizer.param_groups[0]["lr"]
        0.0005

    Source: the interface of ``torch.optim.Optimizer``. It differs where PyTorch would go on with wrong numbers:
    gradients that are not finite, sparse ones, tied parameters, and unknown or misspelt options are errors.
    """

    def step(self, closure: Callable[[], Any] | None = None, **of_numpy: Any) -> Any:
        """Make one step with the gradients that the parameters have.

        Args:
            closure: computes the loss and its gradients, with autograd; called first.
            of_numpy: nothing. ``step_size``, ``grad`` and ``processed_grad`` are arguments on NumPy only: here the rate
                is ``param_groups[...]["lr"]``, and gradients are the parameters' ``grad``.

        Returns:
            What the closure returned, or ``None``.

        Raises:
            GradientShapeError: a gradient's shape is not its parameter's.
            GradientDtypeError: a gradient is sparse, or its dtype is not its parameter's.
            NonFiniteGradientError: a gradient holds NaN or infinity.
            HyperparameterError: a hyperparameter is out of its range, or an array of another shape, or a hook returned
                something else than a tensor of the right shape and dtype.
            ParameterError: a parameter can no longer be updated in place.
            RuleError: the rule's text cannot be computed with a parameter. Nothing is changed then, nor by what a text
                of your own raises: in native operations its steps copy parameters and state, to go back to.
            KeyboardInterrupt: of Python's own handler: after the step, if it came while the parameters were updated.
                The closure and ``process_grad`` are interrupted; so are a text of your own and ``process_model``: the
                step goes back.
            OptimizerError: inside :meth:`evaluating`; or the closure cannot be called, or something was given that is
                for NumPy; or memory ran out in the middle of the step before, and no state was loaded since.
        """
        if of_numpy or not (closure is None or callable(closure)):
            refuse_arguments(self.name, of_numpy, _INSTEAD)
            raise OptimizerError(
                f"{self.name}: step takes a closure, and was given a {type(closure).__name__}; "
                f"{_INSTEAD['step_size']}; {_INSTEAD['grad']}"
            )
        if self._evaluating:
            raise OptimizerError(f"{self.name}: the parameters hold what is to be evaluated; step after evaluating()")
        late.refuse_broken(self)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._zeroing = 0
        with torch.no_grad():
            given = self._given()
            if given and self._accumulate > 1:
                given = self._accumulated(given)
            if given:
                self._advance(given)
        return loss

    def _given(self) -> list[Given]:
        """The parameters that have gradients."""
        found = []
        for group, table in enumerate(self.param_groups):
            for place, param in enumerate(table["params"]):
                grad = param.grad
                if grad is None:
                    continue
                if grad.shape != param.shape or grad.dtype is not param.dtype or grad.layout is not torch.strided:
                    fitting(grad, param, self._label(group, place), self._optimization_state.curr_iter + 1)
                found.append(Given(param, grad, group, place))
        return found

    def _advance(self, given: list[Given]) -> None:
        if self._shown:
            late.tell_overwritten(self)
        known = {group: self._known(group, ahead=True) for group in {one.group for one in given}}
        hypers = {group: found.hyper for group, found in known.items()}
        if self.rule.initial:
            late.tell(self, hypers)
        tell_standing(self.rule, map(self._scheduled.__getitem__, known), self._optimization_state, self._told)
        if self.rule.lagged:
            late.refuse_lagged(self, hypers)
        plan = self._planned(given, hypers, {group: found.lanes for group, found in known.items()})
        raws = [one.grad for one in given]
        grads = self._processed(plan, raws)
        folded = self._fold_limits(plan)
        if not folded or any(unit.may_fail for unit in plan.units):
            self._update_with_copies(plan, hypers, raws, grads, folded)
            return
        with held():
            if self._update(plan, hypers, raws, grads):
                self._commit(plan, hypers)

    def _update_with_copies(
        self,
        plan: Plan,
        hypers: dict[int, Any],
        raws: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor],
        folded: bool,
    ) -> None:
        """Make the step where functions of the user's run in it: they may fail, or take long and be interrupted."""
        backups, made = plan.backup(), False
        try:
            if self._update(plan, hypers, raws, grads):
                if not folded:
                    self._post_process(plan)
                with held():
                    self._commit(plan, hypers)
                    made = True
        except BaseException:
            with held():
                for tensor, copy in () if made else backups:
                    tensor.copy_(copy)
                self._broken = ""
            raise

    def _update(
        self, plan: Plan, hypers: dict[int, Any], raws: Sequence[torch.Tensor], grads: Sequence[torch.Tensor]
    ) -> bool:
        """Update the tensors; False if the step is skipped."""
        used = plan.set_grads(grads)
        if self._nonfinite != "ignore" and not all(_whole(unit, unit.clean) for unit in plan.units):
            repaired = self._repaired(plan, grads, raws, self._optimization_state.curr_iter + 1)
            if repaired is None:
                self._micro, self._gathered = 0, {}
                return False
            used = plan.set_grads(repaired)
        for unit in plan.units:
            for number, lane in enumerate(unit.lanes):
                unit.set_hyper(number, hypers[lane.group])
        for unit in plan.units:
            _whole(unit, unit.ready)
        try:
            for unit in plan.units:
                _whole(unit, unit.update)
        except Exception as error:
            self._broken = type(error).__name__
            raise
        del used  # held until here: units know addresses
        return True

    def _commit(self, plan: Plan, hypers: dict[int, Any]) -> None:
        """Count the step that was made."""
        plan.commit()
        for seat in plan.seats:
            self.state[seat.param] = seat.state
        self._optimization_state.begin_step()
        self._micro, self._gathered = 0, {}
        self._zeroed += self._zeroing
        for group, hyper in hypers.items():
            if self._scheduled[group]:
                self._shown[group] = self._spelling.show(self.param_groups[group], self._scheduled[group], hyper)

    def _planned(self, given: list[Given], hypers: dict[int, Any], each: dict[int, tuple[str, ...]]) -> Plan:
        """The plan for these parameters: the one of the last step, if it was for the same."""
        states: list[State | None] = [self.state.get(one.param) for one in given]
        if self._plan is not None:
            params, groups = [one.param for one in given], [one.group for one in given]
            if each == self._plan.each and self._plan.serves(params, groups, states) and self._plan.follow():
                return self._plan
            self._plan = None
        seats = []
        for one, known in zip(given, states, strict=True):
            state = known if known and "step" in known else fresh(self.rule, one.param, hypers[one.group])
            seats.append(Seat(one.param, self._label(one.group, one.place), one.group, state))
        self._plan = Plan(self.rule, seats, self.kernel, each)
        return self._plan

    def _processed(self, plan: Plan, raws: list[torch.Tensor]) -> list[torch.Tensor]:
        """The gradients after ``process_grad``, which sees those of 16 bits as float32."""
        if self._process_grad.hook is None:
            return raws
        grads = {s.label: g.detach().to(COMPUTED_IN[s.dtype]) for s, g in zip(plan.seats, raws, strict=True)}
        if self._nonfinite == "zero":  # the hook would spread a NaN
            grads = {label: self._zero(grad) for label, grad in grads.items()}
        found = run_all(self._process_grad, grads, self._datas(plan))
        return [found[seat.label] for seat in plan.seats]

    def _datas(self, plan: Plan) -> dict[str, torch.Tensor]:
        return {seat.label: seat.param.detach().to(COMPUTED_IN[seat.dtype]) for seat in plan.seats}

    def _repaired(
        self, plan: Plan, grads: Sequence[torch.Tensor], raws: Sequence[torch.Tensor], iteration: int
    ) -> list[torch.Tensor] | None:
        """Do what was asked for with gradients that are not finite; ``None`` means to skip the step."""
        if self._nonfinite == "skip":
            self._skipped += 1
            return None
        repaired = []
        for seat, grad, raw in zip(plan.seats, grads, raws, strict=True):
            if self._nonfinite == "raise" and not torch.isfinite(grad).all():
                raise not_finite(grad, raw, seat.label, iteration, gathered=self._accumulate)
            repaired.append(self._zero(grad))
        return repaired

    def _zero(self, grad: torch.Tensor) -> torch.Tensor:
        """The gradient with 0 where it is not finite; counted when the step is made."""
        wrong = ~torch.isfinite(grad)
        count = int(wrong.sum())
        self._zeroing += count
        return grad.masked_fill(wrong, 0.0) if count else grad

    def _fold_limits(self, plan: Plan) -> bool:
        """Give bounds to the units, once; whether there is nothing else to do after the rule."""
        if plan.folded is None:
            limits = [self._process_model.limits(seat.label) for seat in plan.seats]
            steps = [self._process_model.steps(seat.label) for seat in plan.seats]
            folded = not any(several and found is None for found, several in zip(limits, steps, strict=True))
            for found, seat in zip(limits, plan.seats, strict=True):
                seat.unit.set_limits(seat.index, found if folded and found else UNBOUNDED)
            plan.folded = folded  # when all have theirs: Ctrl-C may come on the way
        return plan.folded

    def _post_process(self, plan: Plan) -> None:
        """Apply ``process_model``."""
        datas = self._datas(plan)
        results = run_all(self._process_model, datas, datas)
        for seat in plan.seats:
            if results[seat.label] is not datas[seat.label]:
                seat.param.copy_(results[seat.label])

    def _accumulated(self, given: list[Given]) -> list[Given]:
        """Take the gradients of a micro-batch; their means if it was the last before a step, else nothing."""
        iteration = self._optimization_state.curr_iter + 1
        grads = [one.grad.detach().to(COMPUTED_IN[one.param.dtype]) for one in given]
        if self._nonfinite != "ignore":
            for k, one in enumerate(given):
                bad = self._nonfinite != "zero" and not torch.isfinite(grads[k]).all()
                if bad and self._nonfinite == "raise":
                    raise not_finite(one.grad, one.grad, self._label(one.group, one.place), iteration)
                if bad:
                    self._skipped += 1
                    return []
                grads[k] = self._zero(grads[k])
        total = dict(self._gathered)
        for one, grad in zip(given, grads, strict=True):
            known = total.get(one.param)
            total[one.param] = grad.clone() if known is None else known + grad
        if self._micro + 1 < self._accumulate:
            with held():
                self._gathered, self._micro = total, self._micro + 1
                self._zeroed += self._zeroing
            return []
        part = 1.0 / self._accumulate  # of the last one nothing is kept before the step is made
        listing = (
            (p, group, k) for group, table in enumerate(self.param_groups) for k, p in enumerate(table["params"])
        )
        return [Given(p, total[p] * part, group, k) for p, group, k in listing if p in total]

    def eval_params(self) -> dict[str, torch.Tensor]:
        """Where the model is to be evaluated: for Schedule-Free and EMA not where the parameters are.

        Returns:
            A new tensor for each parameter, by its name or number; a copy for rules that evaluate where they store.

        Example:
            >>> import torch
            >>> import thalweg as tw
            >>> from thalweg.optimizers.torch import TorchOptimizer
            >>> x = torch.ones(1, requires_grad=True)
            >>> optimizer = TorchOptimizer([("x", x)], tw.SGD(learning_rate=1.0, wrap=["ema"], ema_decay=0.75))
            >>> x.grad = torch.tensor([4.0])
            >>> optimizer.step()
            >>> x.detach(), optimizer.eval_params()["x"]
            (tensor([-3.]), tensor([0.]))
        """
        if self._evaluating:  # it is there already
            return {label: param.detach().clone() for param, label, _ in self._listing()}
        found = {}
        for param, label, group in self._listing():
            state = self.state.get(param)
            if not state:
                found[label] = param.detach().clone()
                continue
            held = self.rule.state(*(state[name] for name in (*self.rule.slot_names, *self.rule.carried_names)))
            found[label] = evaluate(self.rule, param, held, self._known(group, ahead=False).hyper)
        return found

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Have the parameters hold what :meth:`eval_params` says, inside a ``with``, and their own values after it.

        Raises:
            OptimizerError: it is inside another one.
        """
        if self._evaluating:
            raise OptimizerError(f"{self.name}: the parameters hold what is to be evaluated already")
        values, kept = self.eval_params(), [param.detach().clone() for param, _, _ in self._listing()]
        self._evaluating = True
        try:
            self._put(list(values.values()))
            yield
        finally:
            self._put(kept)
            self._evaluating = False

    def _put(self, values: Sequence[torch.Tensor]) -> None:
        with torch.no_grad():
            for (param, _, _), value in zip(self._listing(), values, strict=True):
                param.copy_(value)


def _whole(unit: Unit, call: Callable[[], T]) -> T:
    """What a unit's method returns; threads of compiled code are waited for, whatever comes."""
    if not isinstance(unit, Compiled):  # the text may be the user's, and may hang
        return call()
    with held():
        return call()
