"""Students of the distillation methods: what each method makes of a world's numbers. One file per method.

A new method needs its mathematics (`objectives`) and one file here with its `PLAN`.
"""

from dmmd_lite.recipes.students import dcd, di4c, dimo, dmmd, idlm, redi, sdtt
from dmmd_lite.recipes.students.base import StudentPlan
from dmmd_lite.utils.checks import check_choice

PLANS: dict[str, StudentPlan] = {
    module.PLAN.role: module.PLAN for module in (dmmd, sdtt, dcd, di4c, idlm, dimo, redi)
}


def plan_of(role: str) -> StudentPlan:
    """Return the plan of a method by its role; ValueError for an unknown one."""
    check_choice("method", role, PLANS)
    return PLANS[role]


def student_for(role: str, world: str, process: str, steps: int) -> str | None:
    """Return the name of the recipe of the student that takes `steps` steps; None where there is none."""
    return plan_of(role).student_for(world, process, steps)
