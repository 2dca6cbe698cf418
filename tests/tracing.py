"""What the tests of graphs and sites share."""

from plumbob.survey.trace import export, sites


def traced(model, *args, training=False, **kwargs):
    """Return the graph and the sites by name."""
    graph = export(model, args, kwargs, training=training)
    return graph, {site.name: site for site in sites(model, graph)}


def feeds(site):
    return {feed.site: feed.repeat for feed in site.feeds}


def operations(graph):
    return [str(n.target) for n in graph.module.graph.nodes if n.op == "call_function"]


def where(found, fact):
    return {name for name, site in found.items() if getattr(site, fact)}
