"""What a policy would have decided, and linking found, on a log of yesterday: `headgate replay`.

    files ──▶ lines ──▶ entries in log time ──▶ decided twice (with groups, without) ──▶ report
                                      └──▶ observations ──▶ linking ──▶ groups ─┘

Law: nothing is guessed and nothing kept. What a log does not say is told as not decided; prompts, addresses and
secrets go in and do not come out.

Memory: some 1.2 kB a key (what it took, whose it is, a balance for each limit), and 2.7 kB more for each of at most
50,000 callers whose tariff is kept worked out. What is kept of lines, addresses, accounts and clauses is bounded; the
linker says its own.
"""

from headgate.replay.files import LogError, LogFile
from headgate.replay.lines import Lines
from headgate.replay.replaying import Asked, Linking, Replay
from headgate.replay.report import Report, as_json

__all__ = ["Asked", "Lines", "Linking", "LogError", "LogFile", "Replay", "Report", "as_json"]
