# Warnings of every target of the project, and its sanitizers.
set(FARPOOL_WARNINGS -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
    -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wformat=2 -Wvla
    -Wno-format-nonliteral)
if(FARPOOL_WERROR)
  list(APPEND FARPOOL_WARNINGS -Werror)
endif()
if(FARPOOL_SANITIZE)
  add_compile_options(-fsanitize=${FARPOOL_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${FARPOOL_SANITIZE})
endif()
