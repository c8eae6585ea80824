{
  'targets': [{
    'target_name': 'vilg',
    'type': 'none',
    'actions': [{
      'action_name': 'cmake_js',
      'inputs': ['CMakeLists.txt', 'scripts/build.cjs'],
      'outputs': ['<(PRODUCT_DIR)/vilg.node'],
      'action': ['node', 'scripts/build.cjs'],
    }],
  }],
}
