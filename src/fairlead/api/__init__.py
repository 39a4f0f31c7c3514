from fairlead.api import lean

lean.prepare()  # before any module of ours imports aiohttp
