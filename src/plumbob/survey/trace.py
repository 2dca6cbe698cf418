"""From a model to its graph, its affine maps and their neighbours."""

from plumbob.survey.graph import Graph as Graph
from plumbob.survey.graph import canonical as canonical
from plumbob.survey.graph import export as export
from plumbob.survey.graph import record as record
