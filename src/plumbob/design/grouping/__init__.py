"""The parts of a split into parameter groups."""

from plumbob.design.grouping.depth import depths as depths
from plumbob.design.grouping.given import taken as taken
from plumbob.design.grouping.patterns import chosen as chosen
from plumbob.design.grouping.role import roles as roles
from plumbob.design.grouping.table import Groups as Groups
from plumbob.design.grouping.table import Row as Row
