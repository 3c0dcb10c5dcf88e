"""MDLM: the published architecture, its sizes and its weight map."""
