pytest_plugins = ["tests.append_only"]
