"""XLA's flags in tests: compiling is most of what they do.

Half the time without LLVM's optimizer, and half of that again without the
emitters of fusions, neither of which small shapes miss.
"""

FAST = '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'
EIGHT_DEVICES = '--xla_force_host_platform_device_count=8'
