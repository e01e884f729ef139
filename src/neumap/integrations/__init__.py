"""neumap inside other tools, one module per tool that needs more than a fitted model.

===========================================  ==============================================
:mod:`~neumap.integrations.fiftyone`         a visualization method of FiftyOne's brain
:mod:`~neumap.integrations.embedding_atlas`  the columns that Apple's Embedding Atlas reads
===========================================  ==============================================

Nothing of these tools is imported before a name of their module is used. ``docs/integrations.md``
has the tools that take a fitted model as it is.
"""
