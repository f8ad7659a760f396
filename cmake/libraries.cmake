# How the libraries that travel in a package are linked: what they export, where they find one another, and what they
# ask of the system.

include(CheckCXXSymbolExists)
if(UNIX AND NOT APPLE)
  check_cxx_symbol_exists(__GLIBC__ features.h CRIA_GLIBC)
endif()
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT CRIA_GLIBC)
  set(CRIA_MUSL ON)
endif()

# Exports what the version script has and nothing else, such as the templates of the C++ library. Elsewhere than on ELF
# systems the sources alone say it.
function(export_only target script)
  if(UNIX AND NOT APPLE)
    target_link_options(${target} PRIVATE -Wl,--version-script=${script})
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${script})
  endif()
endfunction()

# Has nothing undefined, unless the sanitizers' functions, which are in the program that loads it. Elsewhere than on ELF
# systems that is the linker's rule.
function(leave_nothing_undefined target)
  if(UNIX AND NOT APPLE AND NOT CRIA_SANITIZE)
    target_link_options(${target} PRIVATE -Wl,--no-undefined)
  endif()
endfunction()

# Its neighbours are looked for beside it, wherever that is. Windows always does.
function(find_beside target)
  if(APPLE)
    set(beside "@loader_path")
  else()
    set(beside "$ORIGIN")
  endif()
  set_target_properties(${target} PROPERTIES BUILD_RPATH ${beside} INSTALL_RPATH ${beside} BUILD_WITH_INSTALL_RPATH ON)
endfunction()

# Runs where there is no C++ library or an old one, for it holds its own, of which the linker drops all that it does not
# call (4 % more bytes), and on glibc 2.28 or later. Sanitizers want the C++ library that they know.
add_library(cria_glibc OBJECT csrc/glibc.cc)
target_compile_options(cria_glibc PRIVATE -ffunction-sections -fdata-sections)
function(run_anywhere target)
  if(CRIA_SANITIZE OR NOT UNIX OR APPLE)
    return()
  endif()
  target_link_options(${target} PRIVATE -static-libstdc++ -Wl,--gc-sections)
  if(CRIA_GLIBC)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:cria_glibc>)
    # By their file names: where they are empty, there is nothing else to link.
    target_link_options(${target} PRIVATE
                        "LINKER:--push-state,--no-as-needed,-l:libdl.so.2,-l:libpthread.so.0,-l:librt.so.1,--pop-state")
  endif()
endfunction()
