"""Trio meets sockets: accepting, dialling, looking ahead, and moving bytes without waiting where none is needed."""
