"""The exit codes of `photojobs`, and their meanings for each of its commands.

`deployments.cli.command_line` turns errors into these codes and into messages. Without an error, the command itself
returns its code: `deployments.cli.commands.tasks.run`, for example, chooses the code by the status of its task.
"""

from __future__ import annotations

from collections.abc import Mapping

#: The exit codes of every command, besides 0.
TASK_FAILED, BAD_INPUT, FAULT_OF_OURS, CANCELED, PIPE_CLOSED = 1, 2, 70, 130, 141

#: The meanings for commands that are not in `OF_COMMANDS`.
MEANINGS: Mapping[int, str] = {
    0: "done",
    TASK_FAILED: "the command worked, but a task failed or something is wrong",
    BAD_INPUT: "bad input, setting, file or database; the message says what to do",
    FAULT_OF_OURS: "a bug in photojobs itself; --verbose shows where",
    CANCELED: "stopped by Ctrl-C",
    PIPE_CLOSED: "the output pipe was closed",
}

#: The meanings of exit codes by command; codes that are left out have the meaning in `MEANINGS`.
OF_COMMANDS: Mapping[str, Mapping[int, str]] = {
    "": MEANINGS,
    "run": {
        0: "the task completed",
        TASK_FAILED: "the task failed, its run broke off, or a part of a plan was refused",
        BAD_INPUT: "the task was not started; the message says why",
        CANCELED: "canceled by Ctrl-C",
    },
    "plan": {
        0: "the plan was made",
        TASK_FAILED: "the plan was made, but a step would fail",
        BAD_INPUT: "no plan could be made",
    },
    "undo": {
        0: "the task was undone, or with --dry-run: it can be undone completely",
        TASK_FAILED: "the task was undone only in part, the undo failed, or its run broke off",
        BAD_INPUT: "the undo was not started; the message says why",
        CANCELED: "you answered no, or pressed Ctrl-C, perhaps after a part was undone",
    },
    "demo": {
        0: "everything worked as expected",
        TASK_FAILED: "other photos failed than expected, or a run broke off",
    },
    "init": {
        0: "the files were written or shown, or you answered no",
        TASK_FAILED: "the files were written, but not every folder could be added",
    },
    "doctor": {0: "nothing is wrong, except for possible warnings", TASK_FAILED: "something is wrong"},
    "library verify": {0: "no original is recorded as corrupt", TASK_FAILED: "an original is recorded as corrupt"},
    "db check": {0: "nothing is wrong, except for possible warnings", TASK_FAILED: "something is wrong"},
}
