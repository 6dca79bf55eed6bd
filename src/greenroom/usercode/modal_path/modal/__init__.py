"""What an interpreter that user code starts inside a container finds as ``modal``: itself replaced by greenroom's."""

import importlib

from greenroom.usercode import modal_alias

modal_alias.install()
# Python hands on what stands in sys.modules once this file has run: by now the finder's answer, not this module.
importlib.import_module(__name__)
