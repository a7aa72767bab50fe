"""The path of a connection from accept to close; `connection.carry` is where to begin reading."""
